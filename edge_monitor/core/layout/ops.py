"""The instructions of an extraction program: one row each, walked in order by ``walk.extract``.

The walker holds a cursor in the message (``q``, counted from where alignment counts), the ``base`` address of the last
stretch or element, the last list (``first``, ``count``, ``stride``), and the numbers collected for a reducer.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np

#: ``slot``: place among the channel's samples; ``signal``, ``flags``: what goes into the sample; ``align``: bytes (1 in
#: formats without alignment); ``prim``: a number type, reducer or loop depth; ``a b c``: see :class:`Op`; the sample's
#: value is ``raw * scale + offset``. Behind a ``TREE``'s program stand rows that its leaves point to (``msgpack.py``).
#: The first rows of a pool are no instructions, but one a signal: ``prim`` says whether it is a number or a text.
OP = np.dtype(
    [
        ("code", "<i4"),
        ("prim", "<i4"),
        ("slot", "<i4"),
        ("signal", "<i4"),
        ("flags", "<i4"),
        ("align", "<i4"),
        ("a", "<i8"),
        ("b", "<i8"),
        ("c", "<i8"),
        ("scale", "<f8"),
        ("offset", "<f8"),
    ]
)


class Op(IntEnum):
    """What an instruction does; those that write a sample are marked with *."""

    END = 0
    RUN = 1  #: a stretch of fixed size: align, base = cursor, advance by ``a``
    READ = 2  #: * number at base + a; b > 0: bit b - 1 of it, a whole number of c bytes
    STAMP = 3  #: * receive time, and ``b`` (ns) to have it on the stamp's clock, minus the stamp at base + a, seconds
    CHARS = 4  #: * text of at most b bytes at base + a, up to the first NUL
    PRESENT = 5  #: * 1
    ABSENT = 6  #: * invalid, until a later instruction finds the element
    STRING = 7  #: length and bytes of a string; c = 1: a NUL may end it
    TEXT = 8  #: * the last string
    LIST = 9  #: length and elements of fixed stride: ``a`` between starts, ``b`` the last one's size, ``c`` alignment
    INDEX = 10  #: base = element a of the last list; where it has fewer, skip b instructions
    CLEAR = 11  #: forget what is collected
    GATHER = 12  #: collect the number at offset a of every element of the last list; b > 0: of b elements of stride c
    COLLECT = 13  #: collect the number at base + a
    REDUCE = 14  #: * what is collected, reduced by ``prim``
    COUNT = 15  #: * number of elements: b > 0, or of the last list, or (``prim`` >= 0) of the last loop at that depth
    FOR = 16  #: begin loop ``prim`` over a elements (-1: a length is read); none: jump by b
    NEXT = 17  #: next element of loop ``prim``: jump by b, or go on
    GUARD = 18  #: unless loop ``prim`` is at element a, skip b instructions
    SAVE = 19  #: remember the cursor for loop ``prim``
    RESTORE = 20  #: return to it
    TREE = 21  #: walk the whole message as MessagePack by the tree at node a; a reduction lacks something: skip b
    REST = 22  #: what is left of the message is a list of stride a
    STAMP_NS = 23  #: * receive time minus the stamp at base + a (int64, ns), seconds
