"""Mutation tests: small changes to the core's sources, and whether a test falls for each."""
