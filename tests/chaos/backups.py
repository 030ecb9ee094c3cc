"""A backup of a registry's database, and its restoring: every row of every table, on SQLite and PostgreSQL alike."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from edge_registry import tables as t
from edge_registry.store import Store

Backup = dict[str, list[dict[str, Any]]]


def back_up(store: Store) -> Backup:
    """All that a registry holds now."""
    with store.read() as tx:
        return {
            table.name: [dict(row) for row in tx.connection.execute(sa.select(table)).mappings()]
            for table in t.metadata.sorted_tables
        }


def restore(store: Store, backup: Backup) -> None:
    """The registry holds what it held then, and nothing else."""
    with store.begin() as tx:
        for table in reversed(t.metadata.sorted_tables):
            # One that is empty is left alone: PostgreSQL refuses any deletion, of no row too, where a table is only added to.
            if tx.connection.execute(sa.select(sa.literal(1)).select_from(table).limit(1)).first() is not None:
                tx.connection.execute(sa.delete(table))
        for table in t.metadata.sorted_tables:
            if backup[table.name]:
                tx.connection.execute(sa.insert(table), backup[table.name])
