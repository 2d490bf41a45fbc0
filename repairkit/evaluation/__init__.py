"""Judging a repair: splits, statistics, evaluation, and what a user would do instead."""
