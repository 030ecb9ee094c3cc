"""Keys, signed notes and checkpoints against the published examples."""

from __future__ import annotations

import base64
import os
import stat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_monitor.errors import ConfigError, VerificationError
from edge_monitor.journal.keys import (
    VerifierKey,
    load_signing_key,
    load_verifier_key,
    make_key,
    parse_verifier_key,
)
from edge_monitor.journal.notes import Checkpoint, open_note, parse_checkpoint, sign_note

#: The example of golang.org/x/mod/sumdb/note (documentation and tests): Peter Neumann's key, and the note it signed.
PETER = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
NOTE = (
    "If you think cryptography is the answer to your problem,\n"
    "then you don't know what your problem is.\n"
    "\n"
    "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
)


def test_the_published_note_verifies():
    """The example note of the signed-note format holds under its published key, and its text is what was signed."""
    text, signers = open_note(NOTE, [parse_verifier_key(PETER)])
    assert [key.name for key in signers] == ["PeterNeumann"]
    assert text.endswith("your problem is.\n")


@pytest.mark.parametrize("place", range(0, len(NOTE) - 2, 3))
def test_no_changed_character_of_a_note_passes(place):
    """Changing a character of text or signature never leaves a note that is signed."""
    changed = NOTE[:place] + chr(ord(NOTE[place]) ^ 1) + NOTE[place + 1 :]
    try:
        text, signers = open_note(changed, [parse_verifier_key(PETER)])
    except VerificationError:
        return
    assert not signers or text == open_note(NOTE, [parse_verifier_key(PETER)])[0]


def test_the_private_key_of_the_example_signs_the_same_bytes(tmp_path):
    """Ed25519 is deterministic: the published private key gives the published signature."""
    line = "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz"
    path = tmp_path / "peter.key"
    path.write_text(line + "\n")
    path.chmod(0o600)
    key = load_signing_key(path)
    assert key.verifier.text() == PETER
    assert sign_note(NOTE.rpartition("\n\n")[0] + "\n", key) == NOTE


def test_keys_are_made_once_and_secretly(tmp_path):
    """A new key pair has a secret file of mode 0600, reads back, and is never overwritten."""
    secret, public = make_key("robot-7", tmp_path)
    assert stat.S_IMODE(os.stat(secret).st_mode) == 0o600
    assert load_signing_key(secret).verifier == load_verifier_key(public)
    before = secret.read_bytes()
    with pytest.raises(ConfigError, match="never overwritten"):
        make_key("robot-7", tmp_path)
    assert secret.read_bytes() == before


@pytest.mark.parametrize("name", ["", "a b", "../up", "a+b", "-x", "x" * 200])
def test_unusable_key_names_are_refused(tmp_path, name):
    """A name that a note or a path could not carry is refused with what is allowed."""
    with pytest.raises(ConfigError, match="use letters"):
        make_key(name, tmp_path)


def test_wrong_key_files_say_what_to_do(tmp_path):
    """A public key for a secret one, the reverse, an open secret, damage and absence each have their own line."""
    secret, public = make_key("robot", tmp_path)
    with pytest.raises(ConfigError, match=r"public key; give the \.key"):
        load_signing_key(public)
    with pytest.raises(ConfigError, match=r"give the \.pub"):
        load_verifier_key(secret)
    with pytest.raises(ConfigError, match="No such file"):
        load_signing_key(tmp_path / "none.key")
    secret.chmod(0o644)
    with pytest.raises(ConfigError, match="chmod 600"):
        load_signing_key(secret)
    text = public.read_text()
    public.write_text(text.replace("robot+", "rabot+"))
    with pytest.raises(ConfigError, match="damaged"):
        load_verifier_key(public)


def test_low_order_public_keys_are_refused():
    """A key of low order, under which signatures prove nothing, cannot be loaded."""
    for public in (bytes(32), b"\x01" + bytes(31)):
        with pytest.raises(ConfigError, match="not a usable"):
            parse_verifier_key(VerifierKey("x", public).text())


@given(st.binary(max_size=300))
def test_any_bytes_as_a_key_or_note_are_refused_cleanly(data):
    """Random text never raises anything but the documented errors."""
    text = data.decode("latin-1")
    with pytest.raises(ConfigError):
        parse_verifier_key(text)
    with pytest.raises(VerificationError):
        open_note(text, [])
    with pytest.raises(VerificationError):
        parse_checkpoint(text)


@pytest.mark.parametrize(
    "text",
    ["o\n01\n{}\n", "o\n1\n{}\nextension\n", "o\n+1\n{}\n", "\n1\n{}\n", "o\n1\n{}", "o\n-1\n{}\n", "o\n١\n{}\n"],
)
def test_only_the_canonical_form_of_a_checkpoint_is_read(text):
    """Leading zeros, signs, foreign digits, extension lines and missing newlines are refused."""
    root = base64.b64encode(bytes(32)).decode()
    assert parse_checkpoint(f"o\n1\n{root}\n") == Checkpoint("o", 1, bytes(32))
    with pytest.raises(VerificationError):
        parse_checkpoint(text.format(root))
