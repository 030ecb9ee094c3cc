"""The registry: what a fleet's robots have recorded, held so that nothing can be missing or changed unnoticed (docs/sync.md)."""
