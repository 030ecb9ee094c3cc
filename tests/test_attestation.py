"""An operator's signature under a handover: bound to its parameters, to the history seen, and to nothing else."""

from __future__ import annotations

import pytest
from approval_cases import CHECKPOINT, HANDOVER, KEYS, NOW, trusted
from hypothesis import given
from hypothesis import strategies as st

from edge_monitor.attestation import DOMAIN, attest, attestation, verify_attestation
from edge_monitor.errors import UsageError, VerificationError
from edge_monitor.journal.records import decode_payload
from edge_monitor.utc import utc_ns

SIGNATURE = attest(KEYS["bob"], HANDOVER, CHECKPOINT)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text(max_size=8) | st.binary(max_size=8)
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip


def test_an_operator_attests_a_handover_and_the_history_seen():
    """The signature holds for exactly this handover and checkpoint, and tells person and key."""
    signer = verify_attestation(HANDOVER, CHECKPOINT, SIGNATURE, "bob", trusted(), NOW)
    assert signer.person.id == "bob" and signer.key.key == KEYS["bob"].verifier


def test_the_order_of_parameters_changes_nothing():
    """Two dictionaries with one content have one signature."""
    assert attest(KEYS["bob"], dict(reversed(HANDOVER.items())), CHECKPOINT) == SIGNATURE


@given(st.dictionaries(st.text(max_size=8), VALUES, max_size=5))
def test_the_signed_bytes_hold_all_that_was_given(parameters):
    """Whatever a payload can hold comes back out of the signed bytes; the domain is before it."""
    try:
        message = attestation(parameters, CHECKPOINT)
    except UsageError:
        return
    assert message.startswith(DOMAIN)
    said = decode_payload(message.removeprefix(DOMAIN))
    assert said["checkpoint"] == CHECKPOINT and attestation(said["handover"], CHECKPOINT) == message


@pytest.mark.parametrize("field", list(HANDOVER))
def test_every_parameter_is_bound(field):
    """A signature does not hold for a handover that differs in one parameter, or lacks it."""
    less = {key: value for key, value in HANDOVER.items() if key != field}
    for other in (less, {**HANDOVER, field: "x"}, {**HANDOVER, f"{field}_": 1}):
        with pytest.raises(VerificationError, match="no key of theirs signed this handover"):
            verify_attestation(other, CHECKPOINT, SIGNATURE, "bob", trusted(), NOW)


@pytest.mark.parametrize(("old", "new"), [("1234", "1235"), ("yard-rover-7", "yard-rover-8"), ("AAEC", "AAED")])
def test_the_history_is_bound(old, new):
    """A signature does not hold at a checkpoint of another size, log or root."""
    assert old in CHECKPOINT
    with pytest.raises(VerificationError, match="at this checkpoint"):
        verify_attestation(HANDOVER, CHECKPOINT.replace(old, new), SIGNATURE, "bob", trusted(), NOW)


def test_every_bit_of_the_signature_counts():
    """No signature with one bit changed holds, nor one of another length."""
    for i in range(512):
        changed = bytearray(SIGNATURE)
        changed[i // 8] ^= 1 << i % 8
        with pytest.raises(VerificationError, match="does not hold"):
            verify_attestation(HANDOVER, CHECKPOINT, bytes(changed), "bob", trusted(), NOW)
    for other in (b"", SIGNATURE[:-1], SIGNATURE + b"\0"):
        with pytest.raises(VerificationError, match="does not hold"):
            verify_attestation(HANDOVER, CHECKPOINT, other, "bob", trusted(), NOW)


@pytest.mark.parametrize(
    ("key", "person", "now", "expected"),
    [
        ("alice", "alice", NOW, "alice has not the role 'operator'"),
        ("carol", "carol", NOW, "carol is revoked"),
        ("bob", "bob", utc_ns("2027-12-01"), "key bob of bob was valid until 2027-12-01T00:00:00Z"),
        ("bob", "bob", utc_ns("2025-12-31"), "key bob of bob is valid from 2026-01-01T00:00:00Z only"),
        ("bob", "carol", NOW, "attestation of carol does not hold"),
        ("mallory", "mallory", NOW, "the people file has no person 'mallory'"),
    ],
)
def test_only_a_valid_operator_attests(key, person, now, expected):
    """Another role, a revoked person, a key out of its time, somebody else's key and strangers are told apart."""
    signature = attest(KEYS[key], HANDOVER, CHECKPOINT)
    with pytest.raises(VerificationError, match=expected):
        verify_attestation(HANDOVER, CHECKPOINT, signature, person, trusted(), now)


def test_a_signature_for_another_purpose_is_no_attestation():
    """What the same key signed without the domain, or as a note, attests nothing."""
    bare = attestation(HANDOVER, CHECKPOINT).removeprefix(DOMAIN)
    for message in (bare, CHECKPOINT.encode()):
        with pytest.raises(VerificationError, match="does not hold"):
            verify_attestation(HANDOVER, CHECKPOINT, KEYS["bob"].sign(message), "bob", trusted(), NOW)


@pytest.mark.parametrize("checkpoint", ["", CHECKPOINT[:-1], CHECKPOINT + "x\n", CHECKPOINT.replace("1234", "01234")])
def test_only_a_checkpoint_is_attested(checkpoint):
    """A text that is no checkpoint in its one form can neither be signed nor verified."""
    with pytest.raises(VerificationError, match="checkpoint"):
        attest(KEYS["bob"], HANDOVER, checkpoint)
    with pytest.raises(VerificationError, match="checkpoint"):
        verify_attestation(HANDOVER, checkpoint, SIGNATURE, "bob", trusted(), NOW)


def test_parameters_that_no_record_could_hold_are_refused():
    """NaN is refused as usage when signing, and as a failed verification when it comes from outside."""
    with pytest.raises(UsageError, match="NaN"):
        attest(KEYS["bob"], {"speed": float("nan")}, CHECKPOINT)
    with pytest.raises(VerificationError, match="NaN"):
        verify_attestation({"speed": float("nan")}, CHECKPOINT, SIGNATURE, "bob", trusted(), NOW)
