"""Faults of links, registries, neighbours and attackers; ``chaos_matrix.py`` runs them in full, ``test_chaos.py`` in short."""
