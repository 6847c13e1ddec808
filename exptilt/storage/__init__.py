"""Where things lie: file systems, the pool, its keys and tables."""
