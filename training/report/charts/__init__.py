"""Draw a report's charts, and read the data behind them."""
