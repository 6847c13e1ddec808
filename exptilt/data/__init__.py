"""Prompts and records: reading and writing files that others made."""
