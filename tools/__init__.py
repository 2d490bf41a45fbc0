"""How this repository publishes its results; no part of the package."""
