"""The verbs of ``edge-replay``, one file each."""
