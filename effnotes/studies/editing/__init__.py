"""The experiments of the chapter on editing what a language model knows."""
