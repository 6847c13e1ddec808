"""What a run is asked for: settings, grids of λ, targets, and the command line."""
