"""The colours of figures, which the page exchanges for its own in dark mode."""

INK, GRID, PAPER = "#1f2328", "#d0d7de", "#ffffff"
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
AUTHOR_COLOR = "#8b949e"
