"""The kind of experiment: adversarial."""
