"""Where each output stands."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Table, Text

from ..tables import metadata

siem_outputs = Table(
    "siem_outputs",
    metadata,
    Column("name", Text, primary_key=True),
    Column("address", Text, nullable=False),
    Column("format", Text, nullable=False),
    Column("cursor", Text, nullable=False),  #: of the registry's tail, behind what was acknowledged
    Column("sent", BigInteger, nullable=False),  #: records that were acknowledged, those twice that were sent twice
    Column("at_s", BigInteger, nullable=False),
    Column("failure", Text, nullable=False),  #: of the last attempt; empty: it went well
)
