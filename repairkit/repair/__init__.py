"""From images to repaired weights: attribute, select, freeze."""
