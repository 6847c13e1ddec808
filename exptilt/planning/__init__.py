"""From settings to a checked plan, before anything expensive starts."""
