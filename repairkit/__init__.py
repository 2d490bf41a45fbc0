"""repairkit: find the filters to blame, freeze them, show what it bought."""

__version__ = "0.1.0"
