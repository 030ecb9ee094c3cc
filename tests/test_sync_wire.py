"""The wire between device and registry: cosignatures, packed batches, and bytes from outside."""

from __future__ import annotations

import base64
import random
import unicodedata

import msgspec
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from edge_monitor.errors import ConfigError, VerificationError
from edge_monitor.journal.cosignatures import cosign, cosigner_of, open_receipt, parse_cosigner_key
from edge_monitor.journal.keys import SigningKey
from edge_monitor.journal.notes import Checkpoint, open_note, sign_note
from edge_monitor.journal.records import (
    Digests,
    Record,
    Severity,
    WallStatus,
    commitment,
    decode_record,
    encode_payload,
    encode_record,
)
from edge_monitor.sync import wire
from edge_monitor.sync.packing import MAX_UNPACKED, Stored, pack, unpack

DEVICE, REGISTRY = SigningKey("robot", bytes(range(32))), SigningKey("registry.example", bytes(range(1, 33)))
HEAD = Checkpoint("robot/00112233-4455-6677-8899-aabbccddeeff", 7, bytes(32))

texts = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=8).map(
    lambda text: unicodedata.normalize("NFC", text)
)
times = st.integers(-(2**63), 2**63 - 1)


@st.composite
def rows(draw: st.DrawFn) -> list[Stored]:
    """Rows that follow one another in one log, of any content that a journal can hold."""
    log, first, found = draw(st.binary(min_size=16, max_size=16)), draw(st.integers(0, 2**40)), []
    for index in range(draw(st.integers(1, 6))):
        payload = encode_payload(draw(st.dictionaries(texts, st.none() | st.integers(-9, 9) | texts, max_size=3)))
        salt = draw(st.binary(min_size=32, max_size=32))
        sequence = first + index
        record = Record(
            1, log, sequence, "check.fail", draw(st.sampled_from(Severity)), draw(st.binary(min_size=16, max_size=16)),
            draw(times), draw(times), draw(times), draw(st.sampled_from(WallStatus)), -1, draw(texts),
            Digests(draw(st.binary(max_size=64)), b"", b"1"),
            tuple(draw(st.lists(st.integers(0, sequence - 1), max_size=2))) if sequence else (),
            tuple(draw(st.lists(texts, max_size=2))), draw(texts), draw(texts), commitment(salt, payload), 0,
        )  # fmt: skip
        erased = draw(st.booleans())
        found.append(Stored(encode_record(record), None if erased else salt, None if erased else payload))
    return found


@given(rows())
def test_unpacked_rows_are_the_exact_bytes_that_were_packed(found: list[Stored]) -> None:
    """Packing loses and adds nothing, whatever the records hold, erased payloads included."""
    assert unpack(pack(found), len(found)).rows() == found


def test_records_of_another_version_travel_as_they_are() -> None:
    """Bytes that this version can't read come out as they went in."""
    strange = [Stored(msgspec.msgpack.encode([9, "future"]), bytes(32), b"\x80"), Stored(b"\xc1", None, None)]
    assert unpack(pack(strange), 2).rows() == strange


def test_a_record_in_another_form_than_its_one_travels_as_it_is_and_counts_as_none_of_this_version() -> None:
    """A record of this version that was written in another form comes out as it went in, and nothing is read from it."""
    salt, payload = bytes(32), encode_payload({})
    record = Record(
        1, bytes(16), 0, "gate.go", Severity.MARGINAL, bytes(16), 5, 6, 7, WallStatus.UNKNOWN, -1, "", Digests(), (), (), "", "",
        commitment(salt, payload), 0,
    )  # fmt: skip
    data = encode_record(record)
    longer = data[:-1] + b"\xcc\x00"  # the key epoch in two bytes instead of one
    block = unpack(pack([Stored(longer, salt, payload)]), 1)
    assert (block.rows(), block.types) == ([Stored(longer, salt, payload)], [""])


def test_a_packed_batch_that_was_changed_is_refused_or_other_rows_and_never_an_accident() -> None:
    """10,000 mutated batches raise nothing but ``VerificationError``."""
    rng = random.Random(20261126)
    salt, payload = bytes(32), encode_payload({"value": 1.5})
    record = Record(
        1, bytes(16), 0, "gate.go", Severity.MARGINAL, bytes(16), 5, 6, 7, WallStatus.UNKNOWN, -1, "", Digests(), (), ("g",),
        "", "", commitment(salt, payload), 0,
    )  # fmt: skip
    plain = zstandard.decompress(pack([Stored(encode_record(record), salt, payload)]))
    for _ in range(10_000):
        data = bytearray(plain)
        for _ in range(rng.randrange(1, 4)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        try:
            block = unpack(zstandard.compress(bytes(data)), 1)
        except VerificationError:
            continue
        for kind, data in zip(block.types, block.records, strict=True):
            if kind:
                assert decode_record(data).type == kind


def test_a_bomb_is_refused_before_it_is_unpacked() -> None:
    """A frame that says it grows beyond the bound, or does not say how large it is, is not unpacked."""
    with pytest.raises(VerificationError, match="at most"):
        unpack(zstandard.compress(bytes(MAX_UNPACKED + 1)), 1)
    stream = zstandard.ZstdCompressor(write_content_size=False).compress(bytes(1000))
    with pytest.raises(VerificationError, match="at most"):
        unpack(stream, 1)


def test_messages_are_what_they_were_and_strange_frames_are_refused() -> None:
    """Every message survives its frame; cut, random, nested and oversized frames raise ``VerificationError`` alone."""
    hello = wire.Hello((1, 1), "robot/x", bytes(16), "", "", 0, "edge-monitor 1")
    assert wire.decode_uplink(wire.encode(hello)) == hello
    frame = wire.encode(wire.Welcome(1, 4, 9, bytes(32), "", 1 << 20, 1_700_000_000, "registry"))
    for strange in (
        *(frame[:cut] for cut in range(len(frame))),
        b"\x91" * 100_000,
        bytes(wire.MAX_FRAME + 1),
        wire.encode(hello),
    ):
        with pytest.raises(VerificationError):
            wire.decode_downlink(strange)
    rng = random.Random(7)
    for _ in range(2_000):
        with pytest.raises(VerificationError):
            wire.decode_uplink(rng.randbytes(rng.randrange(64)))
    with pytest.raises(VerificationError, match="NUL"):
        wire.decode_uplink(wire.encode(msgspec.structs.replace(hello, software="0\0")))


def test_a_cosigned_checkpoint_keeps_the_devices_signature_and_says_when_it_was_stored() -> None:
    """A receipt opens under the registry's key, and its note under the device's key too."""
    note = cosign(sign_note(HEAD.text(), DEVICE), REGISTRY, 1_700_000_000)
    receipt = open_receipt(note, cosigner_of(REGISTRY))
    assert (receipt.checkpoint, receipt.time, receipt.cosigner) == (HEAD, 1_700_000_000, "registry.example")
    assert open_note(note, [DEVICE.verifier]) == (HEAD.text(), [DEVICE.verifier])


def test_each_changed_byte_of_a_receipt_is_found() -> None:
    """No byte of text, time or cosignature can be changed and the receipt still hold."""
    key = cosigner_of(REGISTRY)
    note = cosign(sign_note(HEAD.text(), DEVICE), REGISTRY, 1_700_000_000)
    text_end, line_start = note.index("\n\n"), note.rindex("\N{EM DASH}")
    for place in (*range(text_end), *range(line_start, len(note))):
        other = "A" if note[place] != "A" else "B"
        with pytest.raises(VerificationError):
            open_receipt(note[:place] + other + note[place + 1 :], key)


def test_a_registrys_key_has_a_type_of_its_own() -> None:
    """The key line of a cosigner is read back, and a plain verifier key is refused in its place, and the other way round."""
    key = cosigner_of(REGISTRY)
    assert parse_cosigner_key(key.text()) == key
    with pytest.raises(ConfigError, match="receipts"):
        parse_cosigner_key(REGISTRY.verifier.text())


def test_the_published_cosignature_example_holds() -> None:
    """The example of the C2SP specification parses as a note with a cosignature of 4 + 8 + 64 bytes at the time it says."""
    line = "jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJsX3b2oyin1nPZqhf5nNo0xUe+mbIUBkBIfZ+qnA=="
    data = base64.b64decode(line)
    assert (len(data), int.from_bytes(data[4:12], "big")) == (76, 1_679_315_147)


def test_random_salts_are_all_that_a_long_run_costs_beside_its_news() -> None:
    """A run of alike records travels in less than 90 bytes each, 32 of them the salt."""
    rng = random.Random(3)
    found = []
    for sequence in range(512):
        salt, payload = rng.randbytes(32), encode_payload({"value": rng.gauss(0, 1), "limit": 12.0, "subject": "speed"})
        t = sequence * 10**7 + rng.randrange(10**6)
        record = Record(
            1, bytes(16), sequence, "check.fail", Severity.CRITICAL, bytes(16), t, t, t, WallStatus.UNSYNCHRONISED,
            -1, "", Digests(bytes(32), b"", b"1"), (), ("speed",), "H3", "G1", commitment(salt, payload), 1,
        )  # fmt: skip
        found.append(Stored(encode_record(record), salt, payload))
    assert len(pack(found)) < 90 * len(found)
