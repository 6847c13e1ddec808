"""What is written: data sets, tables for training, sweeps, palettes, scored files."""
