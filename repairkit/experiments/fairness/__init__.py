"""The kind of experiment: fairness."""
