"""The rows that flow through the core, and the ordered words that describe them.

Everything here is padding-free, little endian and free of Numba, so that the journal and the registry can import it.
Normative text: docs/semantics.md (time, verdicts, causes).
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np

#: One value of one signal at one time (24 bytes). ``t``: receive time, ns on a boot-monotonic clock (a recording's log
#: time). ``flags``: see the ``FLAG_``/``ITEM_`` constants. ``value``: the value in the signal's unit.
SAMPLE = np.dtype([("t", "<i8"), ("signal", "<i4"), ("flags", "<i4"), ("value", "<f8")])

#: One serialized message inside a buffer (24 bytes): receive time, byte range, and index of its channel.
MESSAGE = np.dtype([("t", "<i8"), ("start", "<i8"), ("size", "<i4"), ("channel", "<i4")])

#: One change that the engine decided (56 bytes). ``kind``: :class:`TransitionKind`; ``subject``: index of the check or
#: signal. ``margin`` and ``limit`` are NaN where the check has none. ``flags``: ``FLAG_LATCHED``, ``FLAG_INSTANT_END``.
#: ``onset``: values (samples or blocks) since the likeliest change, of a drift check that dates it; else 0.
TRANSITION = np.dtype(
    [
        ("t_effective", "<i8"),
        ("t_decided", "<i8"),
        ("margin", "<f8"),
        ("value", "<f8"),
        ("limit", "<f8"),
        ("subject", "<i4"),
        ("kind", "u1"),
        ("verdict", "u1"),
        ("cause", "u1"),
        ("previous", "u1"),
        ("flags", "<i4"),
        ("onset", "<i4"),
    ]
)

FLAG_CAUSE = 0xFF  #: low byte of ``SAMPLE.flags``: a :class:`Cause`; NONE where the value counts
FLAG_END = 0x100  #: the last sample of its message: checks are evaluated here
ITEM_SHIFT = 16  #: bits 16..23 of ``SAMPLE.flags``: the item's kind
ITEM_SAMPLE = 0  #: a sample
ITEM_UNTIL = 1  #: a time mark: no later item has a smaller ``t``
ITEM_RESET_LATCH = 2  #: a command: ``signal`` holds the index of the check
ITEM_SOURCE_STATUS = 3  #: a command: the signal's source has the cause in the low byte (``no_publisher``, ``qos``, …)
ITEM_MISSION_END = 4  #: a command: the mission is over (clears ``on_mission_end`` latches)
ITEM_SET_LATCH = 5  #: a command: ``signal`` holds the index of a check whose latch was set before a restart
ITEM_RENEWED = 6  #: a command: the signals and checks that the state lists are new, and are told and evaluated

FLAG_LATCHED = 1  #: of a transition: the check is latched
FLAG_INSTANT_END = 2  #: of a transition: the last row of its instant; rows of one instant take effect together

NEVER = np.iinfo(np.int64).max  #: a deadline that is not set
UNSEEN = np.iinfo(np.int64).min  #: a time that has not been yet


class Verdict(IntEnum):
    """What a check says. The order is policy and part of the API: FAIL > UNKNOWN > PASS."""

    PASS = 0
    UNKNOWN = 1
    FAIL = 2


class Cause(IntEnum):
    """Why a value or verdict is unknown (SEMANTICS §2)."""

    NONE = 0
    NEVER_RECEIVED = 1
    STALE = 2
    NAN = 3
    INVALID = 4
    WARMING = 5
    OVERFLOW = 6
    CLOCK = 7
    NO_RECEIVE_TIME = 8
    NO_PUBLISHER = 9
    QOS = 10
    TYPE_MISMATCH = 11
    DEPENDENCY = 12


class TransitionKind(IntEnum):
    """What a :data:`TRANSITION` row speaks of."""

    CHECK = 0  #: a check's verdict changed
    INPUT = 1  #: a signal was lost (UNKNOWN, cause) or restored (PASS)
    VALUE = 2  #: a watched signal has a new value (or none: UNKNOWN)
    CLOCK = 3  #: the stream stepped back by more than a second; ``value`` is the step in seconds
    LATCH = 4  #: a check's latch was set (FAIL) or reset (PASS)


class Latch(IntEnum):
    """When a failed check may pass again (after PX4's ClearCondition)."""

    WHEN_CLEARED = 0
    ON_MODE_CHANGE = 1
    ON_MISSION_END = 2
    MANUAL = 3
