"""The registry's own Merkle log: each receipt that it gave is a leaf, so that it can be held to its word (docs/sync.md §3)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import msgspec
import sqlalchemy as sa

from edge_monitor.journal.keys import SigningKey
from edge_monitor.journal.merkle import CompactRange, leaf_hash
from edge_monitor.journal.notes import Checkpoint, sign_note
from edge_monitor.journal.reader import TILE_LEVEL

from . import tables as t

if TYPE_CHECKING:
    from .ingest import Given
    from .store import Transaction

LOG_NAME = "receipts"


def append_receipts(tx: Transaction, key: SigningKey, given: Iterable[Given]) -> None:
    """Add receipts as leaves and sign the new head. Holds the head's row until the transaction ends: call it last."""
    connection = tx.connection
    head = connection.execute(sa.select(t.own_head).where(t.own_head.c.id == 1).with_for_update()).one()
    tree = CompactRange(head.size, [head.hashes[place : place + 32] for place in range(0, len(head.hashes), 32)])
    leaves, tiles = [], []
    for one in given:
        entry = msgspec.msgpack.encode([one.time, one.origin, one.size, one.root, one.note])
        leaves.append((tree.size, entry))
        tiles += [done for done in tree.append(leaf_hash(entry)) if done[0] % TILE_LEVEL == 0]
    connection.execute(sa.insert(t.own_log), [{"seq": seq, "entry": entry} for seq, entry in leaves])
    if tiles:
        connection.execute(sa.insert(t.own_tiles), [{"level": a, "tile": b, "hash": c} for a, b, c in tiles])
    note = sign_note(Checkpoint(f"{key.verifier.name}/{LOG_NAME}", tree.size, tree.root()).text(), key)
    values = {"size": tree.size, "hashes": b"".join(tree.hashes), "note": note}
    connection.execute(sa.update(t.own_head).where(t.own_head.c.id == 1).values(**values))
