"""Live inputs: each turns what comes in into ``Channel | Batch | Damage``, as the readers of recordings do."""
