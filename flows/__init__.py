"""What runs: one file per DAG, read top to bottom, its command line at the foot."""
