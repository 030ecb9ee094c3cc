"""The Merkle tree against published vectors and the definition of RFC 6962."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_monitor.journal.merkle import (
    EMPTY_ROOT,
    CompactRange,
    consistency_proof,
    inclusion_proof,
    leaf_hash,
    node_hash,
    root_from_inclusion,
    verify_consistency,
)

VECTORS = json.loads((Path(__file__).parent / "vectors" / "rfc6962.json").read_text())

#: Inputs and roots of the reference implementation (certificate-transparency, merkle_tree_test.cc), sizes 1 to 8.
INPUTS = [
    bytes.fromhex(h)
    for h in ("", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f")
]
ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]


def reference_root(leaves: list[bytes]) -> bytes:
    """RFC 6962 §2.1, word for word."""
    n = len(leaves)
    if n == 0:
        return hashlib.sha256().digest()
    if n == 1:
        return leaves[0]
    k = 1
    while k * 2 < n:
        k *= 2
    return node_hash(reference_root(leaves[:k]), reference_root(leaves[k:]))


def lookup(leaves: list[bytes]):
    return lambda level, index: reference_root(leaves[index << level : (index + 1) << level])


def test_roots_are_those_of_the_reference_implementation():
    """The tree over the published inputs has the published root at every size."""
    tree = CompactRange()
    assert tree.root() == EMPTY_ROOT
    for data, root in zip(INPUTS, ROOTS, strict=True):
        tree.append(leaf_hash(data))
        assert tree.root().hex() == root


@given(st.integers(0, 70), st.integers(0, 140), st.integers(1, 3))
def test_many_leaves_at_once_are_as_one_by_one(before: int, count: int, step: int) -> None:
    """Whatever the size, ``extend`` leaves the tree, and names the subtrees of its levels, as that many ``append`` do."""
    leaves = [leaf_hash(bytes([number])) for number in range(before + count)]
    one, many = CompactRange(), CompactRange()
    for leaf in leaves[:before]:
        one.append(leaf)
        many.append(leaf)
    completed = [found for leaf in leaves[before:] for found in one.append(leaf) if found[0] % step == 0]
    assert many.extend(leaves[before:], step) == sorted(completed)
    assert (many.size, many.hashes, many.root()) == (one.size, one.hashes, reference_root(leaves))


@pytest.mark.parametrize("vector", VECTORS["inclusion"], ids=lambda v: v["name"])
def test_inclusion_vectors_are_accepted_and_refused_as_published(vector):
    """Published audit paths lead to the published root exactly when the vector says so."""
    proof = [base64.b64decode(h) for h in vector["proof"] or []]
    try:
        root = root_from_inclusion(base64.b64decode(vector["leafHash"]), vector["leafIdx"], vector["treeSize"], proof)
    except ValueError:
        root = None
    assert (root != base64.b64decode(vector["root"])) == vector["wantErr"]


@pytest.mark.parametrize("vector", VECTORS["consistency"], ids=lambda v: v["name"])
def test_consistency_vectors_are_accepted_and_refused_as_published(vector):
    """Published consistency proofs hold exactly when the vector says so; from size 0 nothing can be proven."""
    proof = [base64.b64decode(h) for h in vector["proof"] or []]
    roots = base64.b64decode(vector["root1"] or ""), base64.b64decode(vector["root2"] or "")
    holds = verify_consistency(vector["size1"], vector["size2"], *roots, proof)
    assert holds == (not vector["wantErr"] and vector["size1"] > 0)


@given(st.integers(1, 70), st.data())
def test_every_inclusion_proof_holds_and_any_other_leaf_does_not(size, data):
    """The proof that is made for a leaf leads to the root, and for another leaf or place it does not."""
    leaves = [leaf_hash(bytes([i])) for i in range(size)]
    index = data.draw(st.integers(0, size - 1))
    proof = inclusion_proof(lookup(leaves), index, size)
    root = reference_root(leaves)
    assert root_from_inclusion(leaves[index], index, size, proof) == root
    assert root_from_inclusion(leaf_hash(b"other"), index, size, proof) != root
    with pytest.raises(ValueError, match="long"):
        root_from_inclusion(leaves[index], index, size, [*proof, bytes(32)])


@given(st.integers(1, 70), st.data())
def test_every_consistency_proof_holds_and_no_altered_one_does(new, data):
    """The proof between two sizes holds, and fails with any hash changed, dropped or added."""
    leaves = [leaf_hash(bytes([i])) for i in range(new)]
    old = data.draw(st.integers(1, new))
    proof = consistency_proof(lookup(leaves), old, new)
    roots = reference_root(leaves[:old]), reference_root(leaves)
    assert verify_consistency(old, new, *roots, proof)
    assert not verify_consistency(old, new, *roots, [*proof, bytes(32)])
    for i in range(len(proof)):
        assert not verify_consistency(old, new, *roots, [*proof[:i], bytes(32), *proof[i + 1 :]])
        assert not verify_consistency(old, new, *roots, proof[:i] + proof[i + 1 :])


@given(st.integers(0, 600))
def test_a_compact_range_is_the_tree_and_reports_each_completed_subtree(size):
    """Appending leaf by leaf gives the root of the definition, and each completed subtree has its own root."""
    leaves = [leaf_hash(i.to_bytes(2, "big")) for i in range(size)]
    tree = CompactRange()
    for leaf in leaves:
        for level, index, digest in tree.append(leaf):
            if level <= 4:
                assert digest == reference_root(leaves[index << level : (index + 1) << level])
    assert tree.root() == reference_root(leaves)
    assert CompactRange(tree.size, tree.hashes).root() == tree.root()


def test_impossible_requests_are_errors():
    """A leaf beyond the tree, a proof from size 0 and a wrong number of subtrees are refused."""
    for call in (
        lambda: inclusion_proof(lookup([]), 0, 0),
        lambda: consistency_proof(lookup([]), 0, 1),
        lambda: root_from_inclusion(bytes(32), 3, 3, []),
        lambda: CompactRange(3, [bytes(32)]),
    ):
        with pytest.raises(ValueError):
            call()
