"""The colours of the figures, for those who draw without seaborn, which takes a second to import."""

# Okabe & Ito's palette without its yellow, which is too light for a line on white.
PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000")
