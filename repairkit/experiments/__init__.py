"""Kinds of experiments: one folder each."""
