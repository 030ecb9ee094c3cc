"""The rule for Ed25519 keys and signatures: what other verifiers take or leave is refused here."""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edge_monitor.errors import ConfigError
from edge_monitor.journal.keys import SigningKey, VerifierKey, parse_verifier_key

P = 2**255 - 19  #: the field of RFC 8032 §5.1
L = 2**252 + 27742317777372353535851937790883648493  #: the order of its group
D = -121665 * pow(121666, -1, P) % P
Point = tuple[int, int]

#: The verifier key that the tests of golang.org/x/mod/sumdb/note take as their example.
PETER = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"


def add(a: Point, b: Point) -> Point:
    """The addition law of the twisted Edwards curve, as RFC 8032 §5.1.4 prints it, in affine coordinates."""
    (x1, y1), (x2, y2) = a, b
    k = D * x1 * x2 * y1 * y2
    return (x1 * y2 + x2 * y1) * pow(1 + k, -1, P) % P, (y1 * y2 + x1 * x2) * pow(1 - k, -1, P) % P


def times(n: int, point: Point) -> Point:
    total: Point = (0, 1)
    while n:
        if n & 1:
            total = add(total, point)
        point, n = add(point, point), n >> 1
    return total


def point_of(y: int) -> Point | None:
    """A point with this y, if there is one (RFC 8032 §5.1.3)."""
    square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    x = pow(square, (P + 3) // 8, P)
    if x * x % P != square:
        x = x * pow(2, (P - 1) // 4, P) % P
    return (x, y) if x * x % P == square else None


def encode(point: Point) -> bytes:
    x, y = point
    return (y | (x & 1) << 255).to_bytes(32, "little")


def torsion() -> set[Point]:
    """The eight points of low order: multiples of what is left of any point after multiplying by the group's order."""
    for y in range(2, 100):
        point = point_of(y)
        if point is not None:
            rest = times(L, point)
            points = {times(i, rest) for i in range(8)}
            if len(points) == 8:
                return points
    raise AssertionError("no point with a part of order eight")


TORSION = sorted(torsion())


def vkey(public: bytes) -> str:
    return VerifierKey("x", public).text()


@pytest.mark.parametrize("point", TORSION, ids=lambda point: encode(point).hex()[:12])
def test_keys_of_low_order_are_refused_in_every_encoding(point):
    """None of the eight points of low order is taken as a key, neither as itself nor in a non-canonical encoding."""
    x, y = point
    encodings = {encode(point), encode((x ^ 1, y)), (y | 1 << 255).to_bytes(32, "little")}
    if y < 19:
        encodings |= {(y + P).to_bytes(32, "little"), (y + P | 1 << 255).to_bytes(32, "little")}
    for public in encodings:
        with pytest.raises(ConfigError, match="not a usable Ed25519 key"):
            parse_verifier_key(vkey(public))


@pytest.mark.parametrize("point", [p for p in TORSION if p != (0, 1)], ids=lambda point: encode(point).hex()[:12])
def test_keys_with_a_part_of_low_order_are_refused(point):
    """A good key plus a point of low order, under which verifiers disagree, is not taken as a key."""
    public = SigningKey("x", bytes(32)).verifier.public
    y = int.from_bytes(public, "little") & ~(1 << 255)
    good = point_of(y)
    assert good is not None
    assert parse_verifier_key(vkey(encode(good))).public == encode(good)
    with pytest.raises(ConfigError, match="not a usable Ed25519 key"):
        parse_verifier_key(vkey(encode(add(good, point))))


def test_signatures_that_prove_nothing_do_not_hold():
    """Under the identity as key, R = identity and S = 0 fit the equation for every message, and are refused."""
    identity = encode((0, 1))
    assert not VerifierKey("x", identity).verify(b"any message", identity + bytes(32))


def test_the_other_form_of_a_signature_does_not_hold():
    """S + L signs what S signs; only the reduced form is taken, so a signature has one form."""
    key = SigningKey("x", bytes(range(32)))
    signature = key.sign(b"message")
    assert key.verifier.verify(b"message", signature)
    other = int.from_bytes(signature[32:], "little") + L
    assert not key.verifier.verify(b"message", signature[:32] + other.to_bytes(32, "little"))
    assert not key.verifier.verify(b"message", signature + b"\0")
    assert not key.verifier.verify(b"message", signature[:63])


def edges() -> Iterator[tuple[bytes, bytes, bytes]]:
    """Keys and signatures whose equation holds but for a part of low order, in every encoding: (key, message, signature)."""
    base = point_of(4 * pow(5, -1, P) % P)
    assert base is not None
    base = base if base[0] % 2 == 0 else (P - base[0], base[1])
    secret, nonce = 0x1234567890ABCDEF << 100, 0xFEDCBA0987654321 << 90
    key, commitment = times(secret, base), times(nonce, base)
    keys = [encode(add(key, low)) for low in TORSION] + [form for low in TORSION for form in encodings(low)]
    commitments = [encode(add(commitment, low)) for low in TORSION] + [encode(low) for low in TORSION]
    for public in keys:
        for first in commitments if public in keys[:8] else commitments[::5]:
            a = secret if public in keys[:8] else 0
            r = nonce if first in commitments[:8] else 0
            message = bytes([len(public), first[0]])
            k = int.from_bytes(hashlib.sha512(first + public + message).digest(), "little")
            yield public, message, first + ((r + k * a) % L).to_bytes(32, "little")


def encodings(point: Point) -> set[bytes]:
    """A point in its own encoding, and in those that are not canonical."""
    _, y = point
    found = {encode(point), (y | 1 << 255).to_bytes(32, "little")}
    return found | ({(y + P).to_bytes(32, "little"), (y + P | 1 << 255).to_bytes(32, "little")} if y < 19 else set())


def test_both_verifiers_say_the_same_of_every_edge(root: Path) -> None:
    """Device, registry and evidence share one rule; the second verifier, which shares no code, takes and refuses the same."""
    spec = importlib.util.spec_from_file_location("verify_packet", root / "registry/verify/verify_packet.py")
    assert spec is not None and spec.loader is not None
    second = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(second)
    taken, usable = 0, {}
    for public, message, signature in edges():
        holds = VerifierKey("x", public).verify(message, signature)
        assert second.ed25519(public, message, signature) == holds, (public.hex(), signature.hex())
        if public not in usable:
            usable[public] = is_taken(lambda public=public: parse_verifier_key(vkey(public)))
            assert usable[public] == is_taken(lambda public=public: second.parse_key(vkey(public), b"\x01")), (
                public.hex()
            )
        taken += holds and usable[public]
    assert taken == 1 and sum(usable.values()) == 1


def is_taken(parse: Callable[[], object]) -> bool:
    """Whether a key is."""
    try:
        parse()
    except Exception:
        return False
    return True


def test_no_mangled_verifier_key_is_taken():
    """Every proper part of a published verifier key, and every change of one character, is refused."""
    assert parse_verifier_key(PETER).text() == PETER
    parts = [PETER[i:j] for i in range(len(PETER)) for j in range(i + 1, len(PETER) + 1) if j - i < len(PETER)]
    changes = [PETER[:i] + chr(ord(PETER[i]) + 1) + PETER[i + 1 :] for i in range(len(PETER))]
    for text in [*parts, *changes, PETER.upper(), PETER.replace("c74f20a3", "C74F20A3"), PETER + " ", ""]:
        with pytest.raises(ConfigError):
            parse_verifier_key(text)
