"""Other rankings of filters, and the comparison with Shapley values."""
