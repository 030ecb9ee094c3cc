"""Tables of the pages, beside those of the registry: what was derived from records, and who may look at it.

What is derived can be deleted: the follower makes it anew. Nothing here is evidence.
"""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy import BigInteger, Column, Index, Integer, LargeBinary, MetaData, PrimaryKeyConstraint, Table, Text
from sqlalchemy.engine import Engine

DERIVED = "4"  #: version of what the follower writes; another one is derived anew

metadata = MetaData()
_KEY = BigInteger().with_variant(Integer, "sqlite")

settings = Table("web_settings", metadata, Column("key", Text, primary_key=True), Column("value", Text, nullable=False))

#: How far each log has been read, and how it stands there.
logs = Table(
    "web_logs",
    metadata,
    Column("log", BigInteger, primary_key=True, autoincrement=False),
    Column("read", BigInteger, nullable=False),  #: records, from 0 on
    Column("state", LargeBinary, nullable=False),  #: of the follower
    Column("mission", BigInteger, nullable=False),  #: first record of the newest; -1 for none
    Column("decision", Text, nullable=False),  #: who decides, by the newest change of command; empty: none is recorded
    Column("mode", Text, nullable=False),
    Column("envelope", Text, nullable=False),  #: digests in hex, as the newest record has them
    Column("envelope_name", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("monitor", Text, nullable=False),
    Column("wall_ns", BigInteger, nullable=False),  #: of the newest record
    Column("gaps", Text, nullable=False),  #: JSON: counts of what is missing by the records' own word
    Column("open", Integer, nullable=False),  #: breaches that are not over
)

missions = Table(
    "web_missions",
    metadata,
    Column("log", BigInteger, nullable=False),
    Column("first", BigInteger, nullable=False),
    Column("end", BigInteger, nullable=False),  #: first record that is none of it
    Column("ended", Text, nullable=False),  #: clean, unclean, running
    Column("t_first", BigInteger, nullable=False),
    Column("t_last", BigInteger, nullable=False),
    Column("wall_first", BigInteger, nullable=False),
    Column("wall_last", BigInteger, nullable=False),
    Column("boot", Text, nullable=False),
    Column("envelope", Text, nullable=False),
    Column("envelope_name", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("monitor", Text, nullable=False),
    Column("risk", Text, nullable=False),
    Column("counts", Text, nullable=False),  #: JSON: of what happened
    PrimaryKeyConstraint("log", "first"),
    sqlite_with_rowid=False,
)
Index("web_missions_by_time", missions.c.wall_first, missions.c.log, missions.c.first)
Index("web_missions_of_envelope", missions.c.envelope, missions.c.wall_first)

#: From when to when somebody was asked, was in control, or something limited them.
spans = Table(
    "web_spans",
    metadata,
    Column("log", BigInteger, nullable=False),
    Column("seq", BigInteger, nullable=False),  #: the record that began it
    Column("lane", Text, nullable=False),  #: asked, control, limit
    Column("kind", Text, nullable=False),  #: breach, drift, odd, gate, failsafe, mrm, handover, control
    Column("mission", BigInteger, nullable=False),
    Column("subject", Text, nullable=False),
    Column("label", Text, nullable=False),
    Column("severity", Integer, nullable=False),
    Column("t_from", BigInteger, nullable=False),
    Column("t_to", BigInteger),  #: null: not over
    Column("wall_ns", BigInteger, nullable=False),
    Column("end_seq", BigInteger),
    Column("outcome", Text, nullable=False),  #: how it ended
    Column("measured", Text, nullable=False),  #: value, limit, margin and unit, in words
    Column("actions", Text, nullable=False),  #: JSON: [[record, words], …]
    Column("bins", Text, nullable=False),  #: the conditions in which it began, ``weather/light/vibration/occlusion``
    PrimaryKeyConstraint("log", "seq", "lane"),
    sqlite_with_rowid=False,
)
Index("web_spans_by_time", spans.c.kind, spans.c.wall_ns, spans.c.log, spans.c.seq)
Index("web_spans_of_mission", spans.c.log, spans.c.mission, spans.c.seq)
Index("web_spans_by_kind", spans.c.log, spans.c.kind, spans.c.seq)
_OPEN = spans.c.t_to.is_(None)
Index(
    "web_spans_open",
    spans.c.kind,
    spans.c.wall_ns,
    spans.c.log,
    spans.c.seq,
    sqlite_where=_OPEN,
    postgresql_where=_OPEN,
)

#: Time in each cell of conditions of each run under one envelope, and what happened there (`conditions.py`).
exposures = Table(
    "web_exposures",
    metadata,
    Column("log", BigInteger, nullable=False),
    Column("first", BigInteger, nullable=False),  #: the record that began the run, or put the envelope in force
    Column("weather", Text, nullable=False),  #: bins; all empty: no record tells the conditions
    Column("light", Text, nullable=False),
    Column("vibration", Text, nullable=False),
    Column("occlusion", Text, nullable=False),
    Column("last", BigInteger, nullable=False),
    Column("mission", BigInteger, nullable=False),
    Column("envelope", Text, nullable=False),
    Column("wall_first", BigInteger, nullable=False),
    Column("ns", BigInteger, nullable=False),
    Column("breaches", BigInteger, nullable=False),
    Column("drifts", BigInteger, nullable=False),
    Column("account", BigInteger),  #: the record that tells the time
    PrimaryKeyConstraint("log", "first", "weather", "light", "vibration", "occlusion"),
    sqlite_with_rowid=False,
)
Index("web_exposures_of_envelope", exposures.c.envelope, exposures.c.wall_first, exposures.c.log, exposures.c.first)

#: The same, added up over the runs of a log: what a matrix is made of, in as many rows as there are robots and cells.
seen = Table(
    "web_seen",
    metadata,
    Column("envelope", Text, nullable=False),
    Column("log", BigInteger, nullable=False),
    Column("weather", Text, nullable=False),
    Column("light", Text, nullable=False),
    Column("vibration", Text, nullable=False),
    Column("occlusion", Text, nullable=False),
    Column("ns", BigInteger, nullable=False),
    Column("breaches", BigInteger, nullable=False),
    Column("drifts", BigInteger, nullable=False),
    Column("runs", BigInteger, nullable=False),  #: that are told or untold here
    PrimaryKeyConstraint("envelope", "weather", "light", "vibration", "occlusion", "log"),
    sqlite_with_rowid=False,
)

#: What envelopes declare, by the word of each log that ran under them.
domains = Table(
    "web_domains",
    metadata,
    Column("envelope", Text, nullable=False),
    Column("log", BigInteger, nullable=False),
    Column("measured", Text, nullable=False),  #: JSON: axes
    Column("domain", Text, nullable=False),  #: JSON: allowed bins by axis
    Column("seq", BigInteger, nullable=False),  #: the record that says so
    PrimaryKeyConstraint("envelope", "log"),
    sqlite_with_rowid=False,
)

#: Records that stand in the story of a mission: all but checks and heartbeats.
marks = Table(
    "web_marks",
    metadata,
    Column("log", BigInteger, nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("mission", BigInteger, nullable=False),
    Column("type", Text, nullable=False),
    Column("severity", Integer, nullable=False),
    Column("t_effective", BigInteger, nullable=False),
    Column("words", Text, nullable=False),
    PrimaryKeyConstraint("log", "seq"),
    sqlite_with_rowid=False,
)
Index("web_marks_by_type", marks.c.log, marks.c.type, marks.c.seq)

#: With which people sign in; only the hash of the secret is here.
tokens = Table(
    "web_tokens",
    metadata,
    Column("id", _KEY, primary_key=True),
    Column("hash", LargeBinary, nullable=False, unique=True),
    Column("person", Text, nullable=False),
    Column("made_s", BigInteger, nullable=False),
    Column("made_by", Text, nullable=False),
    Column("expires_s", BigInteger, nullable=False),
    Column("used_s", BigInteger),
    Column("withdrawn_s", BigInteger),
)

sessions = Table(
    "web_sessions",
    metadata,
    Column("hash", LargeBinary, primary_key=True),
    Column("token", BigInteger, nullable=False),  #: 0: none, but an identity
    Column("person", Text, nullable=False),
    Column("csrf", Text, nullable=False),
    Column("made_s", BigInteger, nullable=False),
    Column("seen_s", BigInteger, nullable=False),
)

#: Whom an OpenID provider named in sessions that it began.
identities = Table(
    "web_identities",
    metadata,
    Column("session", LargeBinary, primary_key=True),
    Column("issuer", Text, nullable=False),
    Column("subject", Text, nullable=False),
)

#: Sign-ins that are under way at an OpenID provider, each of one browser; what is used, or too old, is deleted.
sign_ins = Table(
    "web_sign_ins",
    metadata,
    Column("state", LargeBinary, primary_key=True),  #: hash of it
    Column("browser", LargeBinary, nullable=False),  #: hash of what its cookie holds
    Column("nonce", Text, nullable=False),
    Column("verifier", Text, nullable=False),
    Column("target", Text, nullable=False),
    Column("made_s", BigInteger, nullable=False),
)

#: Who read payloads, and who changed what. Only ever added to.
audit = Table(
    "web_audit",
    metadata,
    Column("id", _KEY, primary_key=True),
    Column("at_s", BigInteger, nullable=False),
    Column("person", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("words", Text, nullable=False),
    Column("address", Text, nullable=False),
)

packets = Table(
    "web_packets",
    metadata,
    Column("id", _KEY, primary_key=True),
    Column("log", BigInteger, nullable=False),
    Column("first", BigInteger, nullable=False),
    Column("end", BigInteger, nullable=False),
    Column("at_s", BigInteger, nullable=False),
    Column("person", Text, nullable=False),
    Column("file", Text, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("digest", Text, nullable=False),
    Column("verdict", Text, nullable=False),  #: VERIFIED, INCOMPLETE, FAILED
    Column("findings", Text, nullable=False),  #: JSON: what is missing, and what does not hold
    Column("seconds", Text, nullable=False),
)


def create(engine: Engine) -> None:
    """Make the tables that are missing; what another version derived is deleted, to be derived anew."""
    with engine.begin() as connection:
        settings.create(connection, checkfirst=True)
        known = connection.execute(sa.select(settings.c.value).where(settings.c.key == "derived")).scalar()
        if known not in (None, DERIVED):
            metadata.drop_all(connection, [logs, missions, spans, marks, exposures, seen, domains])
        metadata.create_all(connection)
        if known == DERIVED:
            return
        connection.execute(sa.delete(settings).where(settings.c.key == "derived"))
        connection.execute(sa.insert(settings).values(key="derived", value=DERIVED))
