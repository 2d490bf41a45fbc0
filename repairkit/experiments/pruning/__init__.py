"""The kind of experiment: pruning."""
