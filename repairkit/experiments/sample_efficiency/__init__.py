"""The kind of experiment: sample efficiency."""
