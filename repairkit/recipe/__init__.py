"""Recipes: an experiment as a TOML file; one module for the keys of each command."""
