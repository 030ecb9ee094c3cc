#!/usr/bin/env python3
"""A second, independent verifier of evidence packets: this file and Python's standard library, nothing else.

Written from docs/evidence.md, docs/sync.md §1 and edge_monitor/journal/FORMAT.md, it shares no code with edge-monitor, so that one
mistake can't hide in both. What envelopes say, and decisions made again, are left to `edge-monitor evidence verify`.

    python3 verify_packet.py PACKET.zip --exporter NAME.pub --robot ROBOT.pub [--registry-key RECEIPTS.pub]
        [--planner PERSON=PUB --approver PERSON=PUB]

Exit codes: 0 VERIFIED, 1 INCOMPLETE, 5 FAILED, 2 wrong usage. Keys come to you another way than with the packet.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import struct
import sys
import unicodedata
import zipfile
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path, PurePosixPath

# ---- Ed25519 (RFC 8032 §5.1), strict as libsodium is: canonical encodings, no key of low order -------------------------------

P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P
ROOT = pow(2, (P - 1) // 4, P)
BASE_Y = 4 * pow(5, P - 2, P) % P


class Failed(Exception):  # noqa: N818
    """The packet does not hold: in words, and as a code of docs/evidence.md §5."""

    def __init__(self, words, code=""):
        super().__init__(words)
        self.code = code


@contextmanager
def within(code):
    """What is read here and found to be in no form has this code, unless it has one of its own."""
    try:
        yield
    except Failed as error:
        raise Failed(str(error), error.code or code) from None


def sha256(data):
    return hashlib.sha256(data).digest()


def recover_x(y, sign):
    square = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    x = pow(square, (P + 3) // 8, P)
    if (x * x - square) % P:
        x = x * ROOT % P
    if (x * x - square) % P or (x == 0 and sign):
        return None
    return P - x if x & 1 != sign else x


def add(a, b):
    (x1, y1, z1, t1), (x2, y2, z2, t2) = a, b
    e, f = (y1 - x1) * (y2 - x2) % P, (y1 + x1) * (y2 + x2) % P
    g, h = 2 * t1 * t2 * D % P, 2 * z1 * z2 % P
    e, f, g, h = f - e, h - g, h + g, f + e
    return e * f % P, g * h % P, f * g % P, e * h % P


def multiply(scalar, point):
    result = (0, 1, 1, 0)
    while scalar:
        if scalar & 1:
            result = add(result, point)
        point = add(point, point)
        scalar >>= 1
    return result


def equal(a, b):
    return (a[0] * b[2] - b[0] * a[2]) % P == 0 and (a[1] * b[2] - b[1] * a[2]) % P == 0


def decompress(data):
    y = int.from_bytes(data, "little")
    sign, y = y >> 255, y & ((1 << 255) - 1)
    if y >= P:
        return None
    x = recover_x(y, sign)
    return None if x is None else (x, y, 1, x * y % P)


BASE = (recover_x(BASE_Y, 0), BASE_Y, 1, recover_x(BASE_Y, 0) * BASE_Y % P)


def small(point):
    return equal(multiply(8, point), (0, 1, 1, 0))


def ed25519(public, message, signature):
    """Whether a signature (64 bytes) holds."""
    if len(public) != 32 or len(signature) != 64:
        return False
    key, commitment = decompress(public), decompress(signature[:32])
    s = int.from_bytes(signature[32:], "little")
    if key is None or commitment is None or s >= L or small(key) or small(commitment):
        return False
    k = int.from_bytes(hashlib.sha512(signature[:32] + public + message).digest(), "little") % L
    return equal(multiply(s, BASE), add(commitment, multiply(k, key)))


# ---- keys and notes (C2SP signed-note, tlog-checkpoint, tlog-cosignature) ------------------------------------------------------


def b64(text):
    try:
        data = base64.b64decode(text, validate=True)
    except ValueError:
        raise Failed("base64 that is none") from None
    if base64.b64encode(data).decode() != text:
        raise Failed("base64 that is not in its one form")
    return data


def parse_key(line, kind):
    name, _, rest = line.strip().partition("+")
    key_id, _, packed = rest.partition("+")
    data = b64(packed)
    expected = sha256(name.encode() + b"\n" + data)[:4].hex()
    if data[:1] != kind or len(data) != 33 or key_id != expected:
        raise Failed(f"not a usable key: {line[:60]}")
    point = decompress(data[1:])
    if point is None or small(point) or not equal(multiply(L, point), (0, 1, 1, 0)):
        raise Failed(f"not a usable key (of low order, or not a point of the group): {line[:60]}")
    return name, data[1:], bytes.fromhex(key_id)


def split_note(note):
    if len(note) > 1 << 16 or any(c < " " and c != "\n" for c in note):
        raise Failed("a note with control characters, or too long")
    text, gap, lines = note.rpartition("\n\n")
    if not gap or not text or not lines.endswith("\n"):
        raise Failed("a note without signatures")
    signatures = []
    for line in lines[:-1].split("\n"):
        words = line.removeprefix("\u2014 ").split(" ")
        if (
            not line.startswith("\u2014 ")
            or len(words) != 2
            or not words[0]
            or "+" in words[0]
            or not words[0].split() == [words[0]]
        ):
            raise Failed("a malformed signature line")
        signature = b64(words[1])
        if len(signature) < 5:
            raise Failed("a signature that is too short")
        signatures.append((words[0], signature))
    return text + "\n", signatures


def open_note(note, keys):
    """Its text, and whether one of the keys signed; a signature in the name of one that does not hold ends it all."""
    text, signatures = split_note(note)
    signed = False
    for name, signature in signatures:
        for own, public, key_id in keys:
            if name == own and signature[:4] == key_id:
                if not ed25519(public, text.encode(), signature[4:]):
                    raise Failed(f"a signature of {name} does not hold")
                signed = True
    return text, signed


def parse_checkpoint(text):
    lines = text.split("\n")
    if (
        len(lines) != 4
        or lines[3]
        or not lines[0]
        or not lines[1].isascii()
        or not lines[1].isdigit()
        or len(lines[1]) > 20
    ):
        raise Failed("not a checkpoint")
    root = b64(lines[2])
    if len(root) != 32 or lines[1] != str(int(lines[1])):
        raise Failed("a checkpoint that is not in its one form")
    return lines[0], int(lines[1]), root


# ---- MessagePack, canonical only ------------------------------------------------------------------------------------------------


INTEGERS = {
    0xCC: (">B", lambda v: v > 127), 0xCD: (">H", lambda v: v > 255), 0xCE: (">I", lambda v: v > 65535),
    0xCF: (">Q", lambda v: v > 2**32 - 1), 0xD0: (">b", lambda v: v < -32), 0xD1: (">h", lambda v: v < -128),
    0xD2: (">i", lambda v: v < -32768), 0xD3: (">q", lambda v: v < -(2**31)),
}  # fmt: skip
LENGTHS = {
    0xC4: (">B", -1), 0xC5: (">H", 255), 0xC6: (">I", 65535), 0xD9: (">B", 31), 0xDA: (">H", 255), 0xDB: (">I", 65535),
    0xDC: (">H", 15), 0xDD: (">I", 65535), 0xDE: (">H", 15), 0xDF: (">I", 65535),
}  # fmt: skip


def value_at(data, place, depth):
    """(value, where it ends); reading beyond the end is the caller's ``IndexError``, ``struct.error`` or too short a slice."""
    byte = data[place]
    place += 1
    if byte < 0x80:
        return byte, place
    if 0xA0 <= byte <= 0xBF:
        return text_at(data, place, byte & 31)
    if byte >= 0xE0:
        return byte - 256, place
    if byte <= 0x8F:
        return map_at(data, place, byte & 15, depth)
    if byte <= 0x9F:
        return array_at(data, place, byte & 15, depth)
    if byte in LENGTHS:
        code, most = LENGTHS[byte]
        (count,) = struct.unpack_from(code, data, place)
        place += struct.calcsize(code)
        if count <= most:
            raise Failed("a MessagePack length that is not in its shortest form")
        if byte <= 0xC6:
            return data[place : place + count], place + count
        if byte <= 0xDB:
            return text_at(data, place, count)
        return array_at(data, place, count, depth) if byte <= 0xDD else map_at(data, place, count, depth)
    if byte in INTEGERS:
        code, least = INTEGERS[byte]
        (value,) = struct.unpack_from(code, data, place)
        if not least(value):
            raise Failed("a MessagePack value that is not in its shortest form")
        return value, place + struct.calcsize(code)
    if byte == 0xCB:
        (value,) = struct.unpack_from(">d", data, place)
        if value - value != 0 or (value == 0 and data[place]):
            raise Failed("a float that no payload has")
        return value, place + 8
    if byte == 0xC0:
        return None, place
    if byte in (0xC2, 0xC3):
        return byte == 0xC3, place
    raise Failed("a MessagePack type that no record has")


def text_at(data, place, count):
    try:
        text = data[place : place + count].decode("utf-8")
    except UnicodeDecodeError:
        raise Failed("text that is no UTF-8") from None
    if not text.isascii() and not unicodedata.is_normalized("NFC", text):
        raise Failed("text that is not in Unicode NFC")
    return text, place + count


def array_at(data, place, count, depth):
    if depth > 16:
        raise Failed("MessagePack that is nested too deep")
    found = []
    for _ in range(count):
        value, place = value_at(data, place, depth + 1)
        found.append(value)
    return found, place


def map_at(data, place, count, depth):
    if depth > 16:
        raise Failed("MessagePack that is nested too deep")
    found, before = {}, None
    for _ in range(count):
        key, place = value_at(data, place, depth + 1)
        if not isinstance(key, str):
            raise Failed("a map whose keys are not texts")
        encoded = key.encode()
        if before is not None and before >= encoded:
            raise Failed("a map whose keys are not in order")
        found[key], place = value_at(data, place, depth + 1)
        before = encoded
    return found, place


def decode(data):
    try:
        value, end = value_at(data, 0, 0)
    except (IndexError, struct.error):
        end = -1
    if end != len(data):
        raise Failed("MessagePack that is cut, or bytes after its end")
    return value


# ---- records and the tree -------------------------------------------------------------------------------------------------------

FIELDS = ("version", "log_id", "seq", "type", "severity", "boot", "t_ns", "t_decided_ns", "wall_ns", "wall_status", "wall_error",
          "actor", "digests", "causes", "rules", "hazard", "claim", "commitment", "key_epoch")  # fmt: skip
SEVERITIES = {1: "catastrophic", 2: "critical", 3: "marginal", 4: "negligible"}
STATUSES = {0: "unknown", 1: "unsynchronised", 2: "synchronised"}
HEARTBEAT_NS = 600_000_000_000
LISTED = 1000


def is_int(value, least=-(2**63), most=2**63 - 1):
    return type(value) is int and least <= value <= most


def is_text(value):
    return type(value) is str  # value_at has held it to NFC


def parse_record(data):
    values = decode(data)
    if type(values) is not list or len(values) != len(FIELDS) or len(data) > 65535:
        raise Failed("a record without its 19 fields")
    (version, log_id, seq, kind, severity, boot, t_ns, t_decided, wall_ns, status, wall_error,
     actor, digests, causes, rules, hazard, claim, commitment, key_epoch) = values  # fmt: skip
    fine = is_int(seq, 0) and is_int(key_epoch, 0) and is_int(t_ns) and is_int(t_decided) and is_int(wall_ns)
    fine = fine and is_int(version, 1, 1) and is_int(severity, 1, 4) and is_int(status, 0, 2) and is_int(wall_error, -1)
    fine = fine and type(log_id) is bytes and type(boot) is bytes and type(commitment) is bytes
    fine = fine and (len(log_id), len(boot), len(commitment)) == (16, 16, 32)
    fine = fine and is_text(kind) and 1 <= len(kind) <= 64 and is_text(actor) and is_text(hazard) and is_text(claim)
    fine = fine and type(digests) is list and type(causes) is list and type(rules) is list and len(digests) == 3
    fine = fine and all(type(one) is bytes and len(one) <= 64 for one in digests)
    fine = fine and all(is_int(one, 0, seq - 1) for one in causes) and all(map(is_text, rules))
    if not fine:
        raise Failed("a record with a field out of range")
    return dict(zip(FIELDS, values))


def node(left, right):
    return sha256(b"\x01" + left + right)


class Tree:
    """Subtrees from left to right, as (level, hash)."""

    def __init__(self, parts):
        self.parts = list(parts)

    def append(self, level, digest):
        while self.parts and self.parts[-1][0] == level:
            digest, level = node(self.parts.pop()[1], digest), level + 1
        if self.parts and self.parts[-1][0] < level:
            raise Failed("subtrees that don't fit one another")
        self.parts.append((level, digest))

    def root(self):
        digest = self.parts[-1][1]
        for _, left in reversed(self.parts[:-1]):
            digest = node(left, digest)
        return digest


class Loose(Tree):
    """As ``Tree``, where what comes may be smaller or larger than what is there: the right edge of a larger tree."""

    def append(self, level, digest):
        self.parts.append((level, digest))

    def fold(self, places):
        """The root, each part at its (level, index)."""
        stack = []
        for (level, index), (_, digest) in zip(places, self.parts):
            while stack and stack[-1][0] == level and index & 1 and stack[-1][1] == index - 1:
                digest, level, index = node(stack.pop()[2], digest), level + 1, index >> 1
            stack.append((level, index, digest))
        digest = stack[-1][2]
        for _, _, left in reversed(stack[:-1]):
            digest = node(left, digest)
        return digest


def cover(start, end):
    """(level, index) of the largest complete subtrees over leaves start to end - 1."""
    while start < end:
        level = 0
        while start % (2 << level) == 0 and start + (2 << level) <= end:
            level += 1
        yield level, start >> level
        start += 1 << level


# ---- the packet -----------------------------------------------------------------------------------------------------------------


def as_json(value):
    """A payload as JSON has it: bytes in hex."""
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, dict):
        return {key: as_json(one) for key, one in value.items()}
    return [as_json(one) for one in value] if isinstance(value, list) else value


def object_of(data, what):
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        raise Failed(f"{what} is no JSON") from None
    if not isinstance(document, dict):
        raise Failed(f"{what} is no JSON object")
    return document


class Packet:
    def __init__(self, path):
        try:
            self.zip = zipfile.ZipFile(path)
        except (OSError, zipfile.BadZipFile, NotImplementedError, ValueError) as error:
            raise Failed(f"no packet: {error}", "zip_damaged") from None
        infos = self.zip.infolist()
        self.infos = {info.filename: info for info in infos}
        if len(infos) > 4096 or len(infos) != len(self.infos):
            raise Failed("too many files, or a name twice", "zip_names")
        for info in infos:
            name, path = info.filename, PurePosixPath(info.filename)
            plain = (
                0 < len(name) <= 300
                and name.isprintable()
                and "\\" not in name
                and ":" not in name
                and not info.is_dir()
            )
            if not plain or path.is_absolute() or ".." in path.parts or str(path) != name:
                raise Failed("a file's name leads elsewhere", "zip_path")
            if info.flag_bits & 1 or info.compress_type not in (0, 8):
                raise Failed("a file that is encrypted, or packed otherwise", "zip_form")
            if info.file_size > (1 << 30) + 200 * info.compress_size:
                raise Failed("a zip bomb: a file that grows beyond its bounds", "zip_bomb")
        if sum(info.file_size for info in infos) > 64 << 30:
            raise Failed("a zip bomb: files that are too large, unpacked", "zip_bomb")

    def chunks(self, name):
        if name not in self.infos:
            raise Failed(f"{name[:80]} is missing", "file_missing")
        try:
            with self.zip.open(name) as stream:
                while chunk := stream.read(1 << 20):
                    yield chunk
        except Failed:
            raise
        except Exception as error:  # whatever zipfile and zlib raise for what is no zip
            raise Failed(f"{name[:80]} cannot be read: {error}", "zip_damaged") from None

    def read(self, name):
        if name in self.infos and self.infos[name].file_size > 64 << 20:
            raise Failed(f"{name[:80]} is too large to be read as a whole", "oversize")
        return b"".join(self.chunks(name))


def lines_of(chunks):
    """Lines with their ends; the last may have none."""
    rest = b""
    for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            yield line + b"\n"
    if rest:
        yield rest


def verify(path, exporters, robots, registries, known=None, revoked=None, people=None):
    """(verdict, words). ``known``: sizes of logs by origin; ``revoked``: how many records of a robot still count; ``people``:
    (role, person, key) of planners and approvers, None: approvals are not asked for."""
    packet = Packet(path)
    with within("malformed"):
        envelope = object_of(packet.read("attest/packet.dsse.json"), "the envelope")
    if envelope.get("payloadType") != "application/vnd.in-toto+json":
        raise Failed("the envelope's payload is of another type", "payload_type")
    with within("malformed"):
        payload = b64(str(envelope.get("payload")))
    kind = b"application/vnd.in-toto+json"
    message = b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)
    signatures = envelope.get("signatures")
    if (
        not isinstance(signatures, list)
        or not 0 < len(signatures) <= 16
        or not all(isinstance(s, dict) for s in signatures)
    ):
        raise Failed("no signatures", "malformed")
    with within("malformed"):
        signed = any(ed25519(key[1], message, b64(str(s.get("sig")))) for s in signatures for key in exporters)
    if not signed:
        raise Failed("no key that was given for the exporter signed the packet", "exporter_key")
    with within("malformed"):
        statement = object_of(payload, "the statement")
    if statement.get("_type") != "https://in-toto.io/Statement/v1":
        raise Failed("the statement is of another type", "statement_type")
    if statement.get("predicateType") != "https://edge-monitor.dev/evidence-packet/v1":
        raise Failed("the statement is about something else", "statement_type")
    files = files_of(statement)
    predicate = statement.get("predicate")
    check_files(packet, files)
    with within("derived"):
        gaps = object_of(packet.read("data/gaps.json"), "gaps.json").get("logs")
    asked = (
        predicate.get("query", {}).get("logs")
        if isinstance(predicate, dict) and isinstance(predicate.get("query"), dict)
        else None
    )
    if not isinstance(gaps, list) or not isinstance(asked, list) or len(gaps) != len(asked) or not gaps:
        raise Failed("statement and gaps.json are not about the same logs", "derived")
    missing, count, tapes, used = [], 0, tape_heads(packet, files), {}
    envelopes = {
        name[15:-5]
        for name in files
        if name.startswith("data/envelopes/") and name.endswith(".yaml") and len(name) == 84
    }
    for number, (told, query) in enumerate(zip(gaps, asked)):
        bounds = known or {}, revoked or {}
        found, records = check_log(
            packet, f"data/logs/{number}", told, query, robots, registries, envelopes, tapes, bounds, used
        )
        missing += found
        count += records
    if predicate.get("counts") != {"records": count}:
        raise Failed("the statement's counts are not those of the records", "derived")
    for digest in sorted(envelopes if people is not None else ()):
        check_approval(packet, digest, people, used.get(digest))
    return ("INCOMPLETE", missing) if missing else ("VERIFIED", [])


def files_of(statement):
    files = {}
    subjects = statement.get("subject")
    for subject in subjects if isinstance(subjects, list) else [None]:
        digest = subject.get("digest") if isinstance(subject, dict) else None
        found = digest.get("sha256") if isinstance(digest, dict) else None
        if not isinstance(found, str) or not isinstance(subject.get("name"), str) or subject["name"] in files:
            raise Failed("a subject without name or SHA-256, or twice", "malformed")
        files[subject["name"]] = found
    return files


def check_files(packet, files):
    there = set(packet.infos) - {"attest/packet.dsse.json"}
    if set(files) - there:
        raise Failed("a file that was signed for is missing", "file_missing")
    if there - set(files):
        raise Failed("a file is there that nobody signed for", "file_unlisted")
    for name, digest in files.items():
        found = hashlib.sha256()
        for chunk in packet.chunks(name):
            found.update(chunk)
        if found.hexdigest() != digest:
            raise Failed(f"{name[:80]} is not the file that was signed for", "file_changed")
    data = {name: digest for name, digest in files.items() if name.startswith("data/")}
    tags = {name: digest for name, digest in files.items() if name not in data and name != "tagmanifest-sha256.txt"}
    for name, expected in (("manifest-sha256.txt", data), ("tagmanifest-sha256.txt", tags)):
        lines = packet.read(name).decode("utf-8", "replace").splitlines()
        if {line[66:]: line[:64] for line in lines} != expected or len(lines) != len(expected):
            raise Failed(f"{name} does not list what is there", "bag")


def tape_heads(packet, files):
    heads = []
    for name, digest in files.items():
        if name.startswith("data/tapes/"):
            if name != f"data/tapes/{digest}.tape":
                raise Failed("a black box that is not named after its content", "derived")
            heads.append(next(packet.chunks(name), b"")[:4096].hex())
    return heads


def check_log(packet, place, told, query, robots, registries, envelopes, tapes, bounds, used):
    with within("proof_form"):
        proof = object_of(packet.read(f"{place}/proof.json"), "proof.json")
    try:
        origin, first, end, size = proof["origin"], proof["first"], proof["end"], proof["size"]
        left, right = [bytes.fromhex(text) for text in proof["left"]], proof["right"]
        places = [(level, index) for level, index, _ in right]
        edge = [bytes.fromhex(text) for _, _, text in right]
        fields = {"origin", "first", "end", "size", "checkpoint", "receipts", "left", "right", "certificates", "epoch"}
        fine = (
            set(proof) == fields
            and all(is_int(n, 0) for n in (first, end, size, proof["epoch"]))
            and first < end <= size < 1 << 62
        )
        texts = [origin, proof["checkpoint"], *proof["receipts"], *proof["certificates"]]
        fine = fine and all(isinstance(text, str) for text in texts) and all(len(d) == 32 for d in (*left, *edge))
        fine = fine and places == list(cover(end, size)) and len(left) == bin(first).count("1")
    except (KeyError, TypeError, ValueError, AttributeError):
        fine = False
    if not fine:
        raise Failed("proof.json is malformed, or does not cover its log", "proof_form")
    name = origin.rpartition("/")[0]
    own = [key for key in robots if key[0] == name]
    if not own:
        raise Failed(f"no identity key of {name[:60]} was given", "robot_key")
    tree = Tree((level, digest) for (level, _), digest in zip(cover(0, first), left))
    state = Story(first)
    chain = Chain(origin, own)
    roots, wanted = {}, {size_of(note) for note in proof["receipts"]}
    lines = lines_of(packet.chunks(f"{place}/events.ndjson"))
    sequence, log_id = first, origin.rpartition("/")[2]
    for record, salt, payload in rows(packet.chunks(f"{place}/events.bin")):
        with within("record"):
            fields = parse_record(record)
        if uuid(fields["log_id"]) != log_id:
            raise Failed(f"record {fields['seq']} is of another log", "record")
        if fields["seq"] != sequence:
            raise misplaced(packet.chunks(f"{place}/events.bin"), sequence)
        content = None
        if payload is not None:
            if sha256(b"edge-monitor payload v1\0" + salt + payload) != fields["commitment"]:
                raise Failed(f"the payload of record {sequence} is not what it commits to", "payload")
            with within("payload"):
                content = decode(payload)
            if not isinstance(content, dict):
                raise Failed(f"the payload of record {sequence} is no map", "payload")
        if first == 0:
            with within("key_chain"):
                chain.follow(fields, content)
        check_line(next(lines, b""), fields, content)
        state.add(fields, content)
        if fields["digests"][0] and fields["wall_ns"] > 0:
            used.setdefault(fields["digests"][0].hex(), fields["wall_ns"])
        tree.append(0, sha256(b"\0" + record))
        sequence += 1
        if sequence in wanted:
            roots[sequence] = tree.root()
    if sequence != end or next(lines, None) is not None:
        raise Failed("more or fewer records than the packet says", "derived")
    whole = Loose([*tree.parts, *((level, digest) for (level, _), digest in zip(places, edge))])
    roots[size] = whole.fold([*cover(0, end), *places])
    check_checkpoint(proof, own, roots[size])
    covered = receipts(proof, roots, registries)
    if size < bounds[0].get(origin, 0):
        raise Failed("the packet is older than what is known of the log: an old one is replayed", "older")
    if name in bounds[1] and end > min(bounds[1][name], covered):
        raise Failed("the robot's key is revoked, and the records are beyond what still counts", "revoked_key")
    return state.gaps(told, query, proof, covered, envelopes, tapes, bool(registries)), end - first


def check_approval(packet, digest, people, used):
    """An envelope that was active from ``used`` on (ns since 1970) is the file that one person proposed and another approved before."""
    place = f"data/envelopes/{digest}.yaml"
    file = hashlib.sha256()
    for chunk in packet.chunks(place):
        file.update(chunk)
    if used is None:
        return
    if place + ".approval" not in packet.infos:
        raise Failed(f"envelope {digest[:16]} was active and has no approval", "envelope_unapproved")
    with within("envelope_unapproved"):
        try:
            parts = packet.read(place + ".approval").decode().split("\n\n")
        except UnicodeDecodeError:
            parts = []
        if len(parts) != 4:
            raise Failed(f"envelope {digest[:16]} was proposed only, or its approval is none")
        notes = f"{parts[0]}\n\n{parts[1]}\n", f"{parts[2]}\n\n{parts[3]}"
        proposal = stated(notes[0], "proposal", ("envelope", "version", "digest", "file", "proposer", "time"))
        consent = stated(notes[1], "approval", ("proposal", "approver", "ticket", "time", "expires"))
        if (proposal["digest"], proposal["file"]) != (digest, file.hexdigest()):
            raise Failed("an envelope is not the file that was proposed", "envelope_digest")
        if consent["proposal"] != hashlib.sha256(notes[0].encode()).hexdigest():
            raise Failed("the approval is of another proposal")
        if consent["approver"] == proposal["proposer"]:
            raise Failed("an envelope was approved by who proposed it", "self_approval")
        for role, words, note, said in (
            ("planner", "proposer", notes[0], proposal),
            ("approver", "approver", notes[1], consent),
        ):
            keys = [key for kind, person, key in people if (kind, person) == (role, said[words])]
            if not keys or not open_note(note, keys)[1]:
                raise Failed(f"no {role} that was given signed for envelope {digest[:16]}")
        if moment(consent["time"]) > used:
            raise Failed("an envelope was approved after it was used", "envelope_late")
        if moment(proposal["time"]) > moment(consent["time"]) + 300 * 10**9 or moment(consent["expires"]) <= used:
            raise Failed("an approval that was over, or older than its proposal, when the envelope was used")


def stated(note, kind, names):
    """What a statement of an approval file says, by the first word of each line (docs/approval.md); ``reason`` may stand in it."""
    lines = split_note(note)[0].split("\n")
    said = dict(line.partition(" ")[::2] for line in lines[1:-1])
    if (
        lines[0] != f"edge-monitor envelope {kind} v1"
        or set(said) - {"reason"} != set(names)
        or len(said) != len(lines) - 2
    ):
        raise Failed(f"an {kind} that is in no form")
    return said


def moment(text):
    """Ns since 1970 of a time in UTC."""
    try:
        found = datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=timezone.utc)
    except ValueError:
        raise Failed(f"a time that is none: {text[:40]}") from None
    return int(found.timestamp()) * 10**9


def misplaced(chunks, sequence):
    """Why a record is not in its place: it is elsewhere, or nowhere."""
    with within("record"):
        elsewhere = any(parse_record(record)["seq"] == sequence for record, _, _ in rows(chunks))
    if elsewhere:
        return Failed(f"records are reordered: {sequence} is not in its place", "reordered")
    return Failed(f"record {sequence} was dropped", "dropped")


def check_checkpoint(proof, own, root):
    keys = own
    if proof["epoch"]:
        keys = []
        for note in proof["certificates"]:
            with within("key_chain"):
                epoch, key, signed, origin, place = certificate(note, own)
            if epoch == proof["epoch"]:
                if not signed or origin != proof["origin"] or place >= proof["size"]:
                    raise Failed("the certificate of the epoch key does not hold", "key_chain")
                keys = [key]
                break
        else:
            raise Failed(f"the certificate of key epoch {proof['epoch']} is missing", "key_chain")
    with within("checkpoint"):
        text, signed = open_note(proof["checkpoint"], keys)
        origin, size, found = parse_checkpoint(text)
    if not signed:
        raise Failed("the checkpoint is not signed by the key of its place", "checkpoint_key")
    if (origin, size) != (proof["origin"], proof["size"]):
        raise Failed("the checkpoint is of another log or size", "checkpoint")
    if found != root:
        raise Failed("the records do not lead to the signed root", "root")


def certificate(note, own):
    text, signed = open_note(note, own)
    lines = text.split("\n")
    if len(lines) != 6 or lines[0] != "edge-monitor key epoch v1" or not lines[2].isdigit() or not lines[4].isdigit():
        raise Failed("not a certificate")
    key = parse_key(lines[3], b"\x01")
    if str(int(lines[2])) != lines[2] or str(int(lines[4])) != lines[4] or int(lines[2]) < 1:
        raise Failed("not a certificate in its one form")
    return int(lines[2]), key, signed and any(key[0] == one[0] for one in own), lines[1], int(lines[4])


class Chain:
    """Which key epoch is in force, record by record."""

    def __init__(self, origin, own):
        self.origin, self.own, self.last, self.open = origin, own, 0, 0

    def follow(self, record, payload):
        if record["key_epoch"] != self.open:
            if record["key_epoch"]:
                raise Failed(f"record {record['seq']} is of a key epoch that is not in force", "key_chain")
            self.open = 0
        if record["type"] != "key.rotated":
            return
        note = payload.get("certificate") if payload else None
        if not isinstance(note, str):
            raise Failed("a key.rotated record without its certificate", "key_chain")
        epoch, _, signed, origin, place = certificate(note, self.own)
        if not signed or (origin, place, epoch) != (self.origin, record["seq"], self.last + 1):
            raise Failed("a certificate that is not for its place", "key_chain")
        self.last = self.open = epoch


def receipts(proof, roots, registries):
    covered = 0
    for note in proof["receipts"]:
        try:
            text, signatures = split_note(note)
        except Failed:
            continue
        for name, public, key_id in registries:
            mine = [s for own, s in signatures if own == name and s[:4] == key_id]
            if not mine or len(mine[0]) != 76:
                continue
            time = int.from_bytes(mine[0][4:12], "big")
            if not ed25519(public, f"cosignature/v1\ntime {time}\n{text}".encode(), mine[0][12:]):
                continue
            with within("receipt"):
                origin, size, root = parse_checkpoint(text)
            if origin != proof["origin"] or roots.get(size, root) != root:
                raise Failed("a receipt is over another history", "receipt")
            if size in roots:
                covered = max(covered, size)
    return covered


def size_of(note):
    try:
        return parse_checkpoint(split_note(note)[0])[1]
    except Failed:
        return -1


def rows(chunks):
    """(record, salt, payload) of events.bin; None for salt and payload that are not there."""
    data, place = b"", 0

    def take(count):
        nonlocal data, place
        while len(data) - place < count:
            chunk = next(chunks, None)
            if chunk is None:
                raise Failed("events.bin is cut", "events_form")
            data, place = data[place:] + chunk, 0
        place += count
        return data[place - count : place]

    while True:
        if place == len(data):
            data, place = next(chunks, b""), 0
            if not data:
                return
        length = int.from_bytes(take(4), "big")
        if length > 65535:
            raise Failed("events.bin says an impossible length", "events_form")
        record = take(length)
        length = int.from_bytes(take(4), "big")
        if length == 0xFFFFFFFF:
            yield record, None, None
            continue
        if length > 1 << 20:
            raise Failed("events.bin says an impossible length", "events_form")
        salt = take(32)
        yield record, salt, take(length)


def check_line(line, r, payload):
    document = {
        "seq": r["seq"], "type": r["type"], "t_ns": r["t_ns"], "t_s": r["t_ns"] / 1e9, "t_decided_ns": r["t_decided_ns"],
        "severity": SEVERITIES[r["severity"]], "boot": r["boot"].hex(), "wall_ns": r["wall_ns"],
        "wall_status": STATUSES[r["wall_status"]], "actor": r["actor"], "envelope": r["digests"][0].hex(), "caused_by": r["causes"],
        "rules": r["rules"], "hazard": r["hazard"], "claim": r["claim"], "key_epoch": r["key_epoch"],
        "payload": None if payload is None else as_json(payload),
    }  # fmt: skip
    try:
        same = line.endswith(b"\n") and json.loads(line) == document
    except (ValueError, RecursionError):
        same = False
    if not same:
        raise Failed(f"events.ndjson says something else of record {r['seq']} than its bytes", "derived")


class Story:
    """What is missing, from the records themselves."""

    def __init__(self, first):
        self.first = first
        self.erased, self.unclean, self.silences, self.lost, self.jumps = [], [], [], [], []
        self.unsynchronised, self.used, self.boots = 0, set(), []
        self.before, self.ended = None, True

    def add(self, r, payload):
        before = self.before
        if payload is None:
            if self.erased and self.erased[-1][1] == r["seq"] - 1:
                self.erased[-1][1] = r["seq"]
            elif len(self.erased) < LISTED:
                self.erased.append([r["seq"], r["seq"]])
        if before and before["boot"] != r["boot"] and not self.ended and len(self.unclean) < LISTED:
            self.unclean.append({"boot": before["boot"].hex(), "last": before["seq"]})
        if before and before["boot"] == r["boot"] and r["type"] != "monitor.started":
            silence = r["t_decided_ns"] - before["t_decided_ns"]
            if silence > HEARTBEAT_NS and len(self.silences) < LISTED:
                self.silences.append({"before": r["seq"], "ns": silence})
        if r["type"] == "journal.gap" and len(self.lost) < LISTED:
            self.lost.append({"at": r["seq"], "refused": as_json((payload or {}).get("refused", {}))})
        if r["type"] == "clock.jump" and len(self.jumps) < LISTED:
            self.jumps.append(r["seq"])
        self.unsynchronised += r["wall_status"] != 2
        self.used |= {r["digests"][0].hex()} - {""}
        beside = (payload or {}).get("onboard")
        if isinstance(beside, dict) and "tape" in beside and r["boot"].hex() not in self.boots:
            self.boots.append(r["boot"].hex())
        self.before, self.ended = r, r["type"] == "monitor.stopped"

    def document(self, size, covered, envelopes, tapes):
        end = self.before["seq"] + 1
        unclean = list(self.unclean)
        if not self.ended and end == size:
            unclean.append({"boot": self.before["boot"].hex(), "last": self.before["seq"]})
        return {
            "before": self.first, "after": size - end, "unreceipted": max(0, end - max(covered, self.first)), "erased": self.erased,
            "unclean": unclean, "silences": self.silences, "lost": self.lost,
            "clock": {"unsynchronised": self.unsynchronised, "jumps": self.jumps}, "envelopes": sorted(self.used - envelopes),
            "tapes": tapes,
        }  # fmt: skip

    def gaps(self, told, query, proof, covered, envelopes, tapes, asked):
        """What is missing, once gaps.json and the statement's query were found to say the same."""
        if query != {"origin": proof["origin"], "first": proof["first"], "end": proof["end"]} or not isinstance(
            told, dict
        ):
            raise Failed("the statement's query is not what the packet holds", "derived")
        without = told.get("tapes")
        absent = [boot for boot in self.boots if not any(boot in head for head in tapes)]
        if without != absent:
            raise Failed("gaps.json does not list the black boxes that are missing", "derived")
        claimed = max([size_of(note) for note in proof["receipts"]] + [0])
        if self.document(proof["size"], claimed, envelopes, without) != told:
            raise Failed("gaps.json is not what the records say is missing", "derived")
        found = self.document(proof["size"], covered if asked else claimed, envelopes, without)
        kinds = ("unreceipted", "erased", "unclean", "silences", "lost", "envelopes", "tapes")
        return [f"{kind}: {found[kind]}" for kind in kinds if found[kind]]


def uuid(data):
    text = data.hex()
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))


def sized(text):
    name, _, size = text.rpartition("=")
    return name, int(size)


def main(arguments=None):
    parser = argparse.ArgumentParser(description="Verify an evidence packet with keys that reached you another way.")
    parser.add_argument("packet", type=Path)
    parser.add_argument("--exporter", action="append", required=True, type=Path, metavar="PUB")
    parser.add_argument("--robot", action="append", required=True, type=Path, metavar="PUB")
    parser.add_argument("--registry-key", action="append", default=[], type=Path, metavar="PUB")
    parser.add_argument("--known", action="append", default=[], type=sized, metavar="ORIGIN=SIZE")
    parser.add_argument("--revoked", action="append", default=[], type=sized, metavar="ROBOT=SIZE")
    for role in ("planner", "approver"):
        parser.add_argument(
            f"--{role}", action="append", default=[], metavar="PERSON=PUB", help="approvals are asked for then"
        )
    options = parser.parse_args(arguments)
    try:
        keys = [
            [parse_key(path.read_text(), kind) for path in paths]
            for paths, kind in ((options.exporter, b"\x01"), (options.robot, b"\x01"), (options.registry_key, b"\x04"))
        ]
        people = [
            (role, person, parse_key(Path(path).read_text(), b"\x01"))
            for role, said in (("planner", options.planner), ("approver", options.approver))
            for person, _, path in (one.partition("=") for one in said)
        ]
    except (OSError, Failed, UnicodeDecodeError) as error:
        print(f"verify_packet: {error}", file=sys.stderr)
        return 2
    try:
        verdict, words = verify(options.packet, *keys, dict(options.known), dict(options.revoked), people or None)
    except Failed as error:
        verdict, words = "FAILED", [f"{error.code}: {error}"]
    print(verdict)
    for line in words:
        print(f"  {line}")
    return {"VERIFIED": 0, "INCOMPLETE": 1, "FAILED": 5}[verdict]


if __name__ == "__main__":
    sys.exit(main())
