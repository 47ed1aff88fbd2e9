"""Other tools' range tests: their histories read, and their finders' surfaces with lrlib's sweep behind them."""
