"""What every flow needs around its steps: launching, a server, progress, and a clean end."""
