"""The downlink bundle: what verifies, what a robot refuses, and its way over a real session."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_monitor.errors import ConfigError, UsageError, VerificationError
from edge_monitor.journal.cosignatures import cosigner_of
from edge_monitor.journal.keys import SigningKey
from edge_monitor.journal.notes import sign_note
from edge_monitor.sync.bundles import LARGEST, Bundle, Holding, Item, extract, pack, unpack

REGISTRY, OTHER = SigningKey("registry", bytes(range(1, 33))), SigningKey("registry", bytes(32))
KEY = cosigner_of(REGISTRY)
ITEMS = (Item("envelope", "survey.yaml", b"a: 1\n"), Item("people", "people.yaml", b""))


def made(version: int = 1, items: tuple[Item, ...] = ITEMS, key: SigningKey = REGISTRY) -> bytes:
    """A signed bundle."""
    return pack(Bundle("registry", version, 1_700_000_000, items), key)


def test_what_was_packed_comes_out() -> None:
    """A bundle is the same after its way, and its note is text that a person can read."""
    bundle = unpack(made(7), KEY)
    assert bundle == Bundle("registry", 7, 1_700_000_000, ITEMS)
    assert bundle.text().startswith("edge-monitor bundle v1\nregistry\n7\n2023-11-14T22:13:20Z\nenvelope survey.yaml ")


@given(st.data())
def test_one_changed_byte_is_refused(data: st.DataObject) -> None:
    """Whatever byte of a bundle is changed, nothing of it is taken."""
    good = made()
    place = data.draw(st.integers(0, len(good) - 1))
    flip = data.draw(st.integers(1, 255))
    bad = bytearray(good)
    bad[place] ^= flip
    try:
        found = unpack(bytes(bad), KEY)
    except VerificationError:
        return
    assert found == unpack(good, KEY)  # base64 has spare bits that mean nothing


def test_only_the_registry_signs_and_only_whole_lists_count() -> None:
    """Another key of the same name, a missing or an added file, a name with a path, another kind: all are refused."""
    with pytest.raises(VerificationError, match="signed by registry"):
        unpack(made(key=OTHER), KEY)
    note, contents = msgspec.msgpack.decode(made())
    for wrong in (contents[:1], [*contents, b"x"], contents[::-1]):
        with pytest.raises(VerificationError):
            unpack(msgspec.msgpack.encode([note, wrong]), KEY)
    for line in ("envelope ../x", "envelope a/b", "order x"):
        digest = Item("envelope", "x", b"").digest
        text = f"edge-monitor bundle v1\nregistry\n1\n2023-11-14T22:13:20Z\n{line} {digest}\n"
        with pytest.raises(VerificationError):
            unpack(msgspec.msgpack.encode([sign_note(text, REGISTRY), [b""]]), KEY)
    with pytest.raises(VerificationError, match="not a bundle"):
        unpack(bytes(LARGEST + 1), KEY)


def test_what_cannot_be_in_a_bundle_is_said_before_it_is_signed() -> None:
    """Kinds, names, doubles and sizes."""
    for items in (
        (Item("order", "x", b""),),
        (Item("envelope", "../x", b""),),
        (ITEMS[0], ITEMS[0]),
        (Item("mission", "x", bytes(LARGEST)),),
    ):
        with pytest.raises(UsageError):
            made(items=items)


def test_a_robot_holds_the_newest_and_takes_no_older_one(tmp_path: Path) -> None:
    """Versions only grow, over restarts; what is refused changes nothing; a damaged file is said at the start."""
    path = tmp_path / "registry.bundle"
    holding = Holding(path, KEY)
    assert holding.version == 0
    holding.take(made(3))
    for version in (1, 2, 3):
        with pytest.raises(VerificationError, match="rolled back"):
            Holding(path, KEY).take(made(version))
    with pytest.raises(VerificationError, match="signed"):
        holding.take(made(4, key=OTHER))
    assert Holding(path, KEY).version == 3
    Holding(path, KEY).take(made(4, ()))
    assert list(tmp_path.iterdir()) == [path] and Holding(path, KEY).bundle == Bundle("registry", 4, 1_700_000_000, ())
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ConfigError, match="sends it anew"):
        Holding(path, KEY)


def test_its_files_are_written_by_kind_and_name(tmp_path: Path) -> None:
    """Each with its bytes, in a folder of its kind."""
    written = extract(unpack(made(), KEY), tmp_path)
    assert [path.relative_to(tmp_path).as_posix() for path in written] == ["envelope/survey.yaml", "people/people.yaml"]
    assert written[0].read_bytes() == b"a: 1\n"
