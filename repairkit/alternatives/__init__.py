"""What one would do instead of a repair, on the same images."""
