"""The colours of figures, for those who draw and for those who exchange them on the page, where nothing is drawn."""

INK, GRID, PAPER = "#1f2328", "#d0d7de", "#ffffff"
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
AUTHOR_COLOR = "#8b949e"
