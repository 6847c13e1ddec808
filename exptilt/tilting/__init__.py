"""The mathematics of tilting, in numpy and scipy alone."""
