"""Adversarial images, and robustness against them."""
