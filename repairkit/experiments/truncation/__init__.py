"""The kind of experiment: truncation."""
