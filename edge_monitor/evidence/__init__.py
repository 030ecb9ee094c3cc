"""Evidence packets: a part of a log that a stranger can verify without trusting whoever exported it (docs/evidence.md)."""
