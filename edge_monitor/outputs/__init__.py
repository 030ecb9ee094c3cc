"""What consumers get from the monitor: heartbeats and leases as bytes."""
