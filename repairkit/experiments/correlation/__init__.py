"""The kind of experiment: correlation."""
