"""The verbs of ``edge-monitor``, one file each."""
