"""The experiments of the chapter on bias in pruned vision models."""
