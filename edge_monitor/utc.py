"""Moments of the calendar, in UTC to the second, as people's files and signed statements write them."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone

SECOND = 1_000_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_FORM = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2})(T[0-9]{2}:[0-9]{2}:[0-9]{2}Z)?", re.ASCII)


def utc_text(ns: int) -> str:
    """Nanoseconds since 1970 as ``2026-11-26T13:04:19Z``; parts of a second are cut. Raises ValueError out of range."""
    try:
        return (_EPOCH + timedelta(seconds=ns // SECOND)).replace(tzinfo=None).isoformat() + "Z"
    except OverflowError:
        raise ValueError(f"{ns} ns is no moment of the years 1 to 9999") from None


def utc_ns(text: object) -> int:
    """``2026-11-26T13:04:19Z``, or ``2026-11-26`` for its first moment, in ns since 1970.

    Raises:
        ValueError: another form, a day or hour that does not exist, or a year outside 1970 to 2200.
    """
    form = _FORM.fullmatch(text) if isinstance(text, str) and len(text) <= 20 else None
    if form is None:
        raise ValueError("expected a moment in UTC such as `2026-11-26` or `2026-11-26T13:00:00Z`")
    try:
        moment = datetime.strptime(form[1] + (form[2] or "T00:00:00Z"), "%Y-%m-%dT%H:%M:%SZ")
    except ValueError:
        raise ValueError("is no moment of the calendar") from None
    if not 1970 <= moment.year <= 2200:
        raise ValueError("is not between 1970 and 2200")
    return (moment.replace(tzinfo=timezone.utc) - _EPOCH) // timedelta(seconds=1) * SECOND
