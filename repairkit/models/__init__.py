"""Named models, loading and training."""
