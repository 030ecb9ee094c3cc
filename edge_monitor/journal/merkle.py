"""The Merkle tree of RFC 6962 §2.1: hashes, roots, inclusion and consistency proofs.

Written for reading beside the RFC: the tree over ``n`` leaves splits at the largest power of two below ``n``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from hashlib import sha256

#: The hash of the complete subtree of ``2**level`` leaves that begins at leaf ``index * 2**level``.
Subtree = Callable[[int, int], bytes]


def leaf_hash(data: bytes) -> bytes:
    """``SHA-256(0x00 ‖ data)``."""
    return sha256(b"\x00" + data).digest()


def leaf_hashes(data: Iterable[bytes]) -> list[bytes]:
    """``leaf_hash`` of each."""
    return [sha256(b"\x00" + one).digest() for one in data]


def node_hash(left: bytes, right: bytes) -> bytes:
    """``SHA-256(0x01 ‖ left ‖ right)``."""
    return sha256(b"\x01" + left + right).digest()


EMPTY_ROOT = sha256().digest()


class CompactRange:
    """The state needed to append: one hash for each complete subtree of the tree so far, largest first (at most 64)."""

    def __init__(self, size: int = 0, hashes: Sequence[bytes] = ()) -> None:
        if len(hashes) != size.bit_count():
            raise ValueError(f"a tree of {size} leaves has {size.bit_count()} complete subtrees, not {len(hashes)}")
        self.size = size
        self.hashes = list(hashes)

    def append(self, leaf: bytes) -> list[tuple[int, int, bytes]]:
        """Add a leaf hash; answers the subtrees that it completed, as (level, index, hash), smallest first."""
        completed = []
        self.hashes.append(leaf)
        size, level = self.size, 0
        while size & 1:
            right, left = self.hashes.pop(), self.hashes.pop()
            self.hashes.append(node_hash(left, right))
            size >>= 1
            level += 1
            completed.append((level, size, self.hashes[-1]))
        self.size += 1
        return completed

    def extend(self, leaves: Sequence[bytes], step: int = 1) -> list[tuple[int, int, bytes]]:
        """Add leaf hashes, as ``append`` one by one would and in a third of its time; answers the subtrees that they completed
        whose level is a multiple of ``step``, as (level, index, hash), level by level.
        """
        completed = []
        rest: list[bytes] = []  # what is left over at each level, smallest first
        nodes, start, level = list(leaves), self.size, 0
        self.size += len(nodes)
        while nodes:
            if level and level % step == 0:
                completed += [(level, start + place, node) for place, node in enumerate(nodes)]
            if start & 1:
                nodes.insert(0, self.hashes.pop())
                start -= 1
            if len(nodes) & 1:
                rest.append(nodes.pop())
            pairs = iter(nodes)
            nodes = [sha256(b"\x01" + left + right).digest() for left, right in zip(pairs, pairs, strict=True)]
            start >>= 1
            level += 1
        self.hashes += reversed(rest)
        return completed

    def root(self) -> bytes:
        """The root of the tree so far."""
        if not self.hashes:
            return EMPTY_ROOT
        root = self.hashes[-1]
        for left in reversed(self.hashes[:-1]):
            root = node_hash(left, root)
        return root


def range_hash(subtree: Subtree, start: int, end: int) -> bytes:
    """The hash of the subtree over leaves ``start`` to ``end`` (exclusive); ``start`` is where a split leaves it."""
    size = end - start
    if size == 0:
        return EMPTY_ROOT
    if size & (size - 1) == 0:
        level = size.bit_length() - 1
        return subtree(level, start >> level)
    split = 1 << (size - 1).bit_length() - 1
    return node_hash(range_hash(subtree, start, start + split), range_hash(subtree, start + split, end))


def inclusion_proof(subtree: Subtree, index: int, size: int) -> list[bytes]:
    """The audit path of RFC 6962 §2.1.1 for leaf ``index`` in the tree of ``size`` leaves, leaf side first."""
    if not 0 <= index < size:
        raise ValueError(f"leaf {index} is not in a tree of {size} leaves")
    start, end, path = 0, size, []
    while end - start > 1:
        split = start + (1 << (end - start - 1).bit_length() - 1)
        if index < split:
            path.append(range_hash(subtree, split, end))
            end = split
        else:
            path.append(range_hash(subtree, start, split))
            start = split
    return path[::-1]


def consistency_proof(subtree: Subtree, old: int, new: int) -> list[bytes]:
    """The proof of RFC 6962 §2.1.2 that the tree of ``old`` leaves is a prefix of the one of ``new`` leaves."""
    if not 0 < old <= new:
        raise ValueError(f"no consistency proof from size {old} to {new}")
    start, end, path, whole = 0, new, [], True
    while old != end:
        split = start + (1 << (end - start - 1).bit_length() - 1)
        if old <= split:
            path.append(range_hash(subtree, split, end))
            end = split
        else:
            path.append(range_hash(subtree, start, split))
            start = split
            whole = False
    if not whole:
        path.append(range_hash(subtree, start, end))
    return path[::-1]


def root_from_inclusion(leaf: bytes, index: int, size: int, path: Sequence[bytes]) -> bytes:
    """The root that an audit path leads to (RFC 9162 §2.1.3.2).

    Raises ``ValueError`` for a path of the wrong length.
    """
    if not 0 <= index < size:
        raise ValueError(f"leaf {index} is not in a tree of {size} leaves")
    if any(len(digest) != 32 for digest in (leaf, *path)):
        raise ValueError("a hash has 32 bytes")
    node, last, result = index, size - 1, leaf
    for sibling in path:
        if last == 0:
            raise ValueError("the proof is too long")
        if node & 1 or node == last:
            result = node_hash(sibling, result)
            while not node & 1 and node:
                node >>= 1
                last >>= 1
        else:
            result = node_hash(result, sibling)
        node >>= 1
        last >>= 1
    if last:
        raise ValueError("the proof is too short")
    return result


def verify_consistency(old: int, new: int, old_root: bytes, new_root: bytes, path: Sequence[bytes]) -> bool:
    """Whether ``path`` proves that the old tree is a prefix of the new (RFC 9162 §2.1.4.2).

    An old size of 0 proves nothing.
    """
    if not 0 < old <= new:
        return False
    if old == new:
        return not path and old_root == new_root
    path = list(path)
    if old & (old - 1) == 0:
        path.insert(0, old_root)
    if not path:
        return False
    node, last = old - 1, new - 1
    while node & 1:
        node >>= 1
        last >>= 1
    first = second = path[0]
    for sibling in path[1:]:
        if last == 0:
            return False
        if node & 1 or node == last:
            first, second = node_hash(sibling, first), node_hash(sibling, second)
            while not node & 1 and node:
                node >>= 1
                last >>= 1
        else:
            second = node_hash(second, sibling)
        node >>= 1
        last >>= 1
    return last == 0 and first == old_root and second == new_root
