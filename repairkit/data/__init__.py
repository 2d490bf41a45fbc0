"""Data sets: one file per published layout, the user's own manifest, and drawn faces."""
