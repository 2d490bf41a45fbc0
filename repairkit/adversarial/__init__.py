"""Adversarial repair: filters that let an attack through are found and frozen, and adversaries of every kind judge the result."""
