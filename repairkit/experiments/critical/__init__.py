"""The kind of experiment: critical."""
