"""Networks by name, and for each family its axis table: which tensor axes share one channel index."""
