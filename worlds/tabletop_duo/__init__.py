"""Two Pandas at one table with a bin between them: the tabletop world with a second arm."""
