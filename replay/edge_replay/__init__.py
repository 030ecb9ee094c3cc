"""edge-replay: recordings through the monitor, on a workstation."""
