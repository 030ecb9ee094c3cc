"""The commands of ``edge-registry``, one a file."""
