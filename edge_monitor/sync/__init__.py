"""Store and forward: a robot's journal to a registry and back, over links that fail (docs/sync.md)."""
