"""The kind of experiment: dropout."""
