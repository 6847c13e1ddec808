"""Which weights, on which device, and how texts go through them."""
