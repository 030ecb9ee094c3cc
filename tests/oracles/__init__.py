"""Obvious references in plain Python, one file an area."""
