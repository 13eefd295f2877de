"""Editing what a model knows: what is changed, what should stay, and scores for both."""
