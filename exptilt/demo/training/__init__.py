"""How the embedded demo was made."""
