"""What the reading functions answer: plain data, by name. Times are ns since 1970 (0: none); digests are SHA-256, bare hex."""

from __future__ import annotations

from typing import TypedDict


class StandingDocument(TypedDict):
    """What a statement is worth now: ``verified``, ``unknown key`` or ``not valid``, and every reason why not."""

    word: str
    person: str
    key: str
    reasons: list[str]
    codes: list[str]


class DecisionDocument(TypedDict):
    """Whether something is approved, or promoted, now. ``state``: ``approved``, ``promoted``, ``expired``, ``refused``,
    ``withdrawn``, ``not valid`` (somebody said so, and it does not count), ``not approved`` or ``not promoted`` (nobody did)."""

    state: str
    person: str
    time_ns: int
    expires_ns: int
    ticket: str
    reason: str
    statement: str
    robots: list[str]
    reasons: list[str]
    codes: list[str]


class ItemDocument(TypedDict):
    """A thing of the catalogue in a list. ``evidence``: statements about it of others, that count and that don't."""

    digest: str
    kind: str
    name: str
    version: str
    alias: str
    owner: str
    registered_by: str
    added_ns: int
    standing: StandingDocument
    approval: DecisionDocument
    promotion: DecisionDocument
    about: dict[str, str]
    statements: int


class StatementDocument(TypedDict):
    """Something signed. ``text``: its payload as it was signed (JSON, or the notes of an approval file)."""

    digest: str
    form: str
    type: str
    subjects: list[str]
    received_ns: int
    standing: StandingDocument
    result: str
    text: str


class NodeDocument(TypedDict):
    """A thing in a lineage; ``known``: it is in the catalogue."""

    digest: str
    kind: str
    alias: str
    known: bool


class EdgeDocument(TypedDict):
    """``source relation target``, and who says so; ``counts``: by somebody who may."""

    source: str
    relation: str
    target: str
    statement: str
    person: str
    counts: bool
    words: str


class LineageDocument(TypedDict):
    """Where something comes from, and what came of it. ``training_data``: digests that the way back ends at, over statements that
    count; ``gaps``: what is missing on the way, in words."""

    root: str
    nodes: list[NodeDocument]
    edges: list[EdgeDocument]
    training_data: list[str]
    gaps: list[str]


class UseDocument(TypedDict):
    """A stretch of a robot's log under one boot, envelope, model and monitor; sequences are inclusive."""

    robot: str
    log: str
    boot: str
    first: int
    last: int
    first_wall_ns: int
    last_wall_ns: int
    envelope: str
    envelope_alias: str
    model: str
    model_alias: str
    monitor: str
    unapproved: bool


class PartDocument(TypedDict):
    """A part of what is active on a robot. ``verifies``: known, and approved or promoted by who may; ``words`` say why not."""

    part: str
    digest: str
    alias: str
    verifies: bool
    words: str


class ActiveDocument(TypedDict):
    """What is active on a robot by its newest records, and whether every part of it verifies; ``use`` None: no records."""

    robot: str
    use: UseDocument | None
    parts: list[PartDocument]
    verifies: bool


class ChangeDocument(TypedDict):
    """What a person did about an exception."""

    time_ns: int
    state: str
    person: str
    owner: str
    reason: str
    statement: str
    counts: bool


class ExceptionDocument(TypedDict):
    """Something that is not as it should be. ``state``: ``open``, ``mitigating``, ``mitigated``, ``accepted``, ``closed``."""

    id: int
    kind: str
    robot: str
    subject: str
    subject_alias: str
    log: str
    sequence: int
    opened_ns: int
    owner: str
    deadline_ns: int
    overdue: bool
    state: str
    words: str
    changes: list[ChangeDocument]


class MissionDocument(TypedDict):
    """A boot of a robot, as its records have it; ``alias``: of the mission that names this boot, where one is registered."""

    robot: str
    log: str
    boot: str
    first: int
    last: int
    first_wall_ns: int
    last_wall_ns: int
    envelopes: list[str]
    alias: str


class ItemPageDocument(TypedDict):
    """A thing with all that is said of it."""

    item: ItemDocument
    versions: list[ItemDocument]
    statements: list[StatementDocument]
    lineage: LineageDocument
    used: list[UseDocument]
    exceptions: list[ExceptionDocument]
