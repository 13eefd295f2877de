"""The experiments of the book: which models, which seeds, which comparison, and the figures that show them."""
