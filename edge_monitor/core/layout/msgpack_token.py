"""One token of MessagePack: a whole number, or the head of a text, bin, extension, list or map (spec.md, "Formats")."""

from __future__ import annotations

import math

import numpy as np

from ..jit import inlined
from .load import (
    FLOAT32,
    FLOAT64,
    INT8,
    INT16,
    INT32,
    INT64,
    UINT16,
    UINT32,
    UINT64,
    load16,
    load32,
    load64,
    load_number,
)

#: Kinds of tokens, in an order that the walk relies on: plain numbers (nil among them), bytes, containers, none at all.
NIL, BOOL, INT, FLOAT, STR, BIN, EXT, ARRAY, MAP, BAD = range(10)
_NAN = math.nan


@inlined
def token(data, at, end):  # type: ignore[no-untyped-def]
    """What stands at ``at``: ``(kind, whole, number, next)``.

    ``whole``: an integer (wrapped above int64), bytes of a text, bin or extension, entries of a list or map; ``number``:
    the value of a number as float64; ``next``: the byte behind the number, or the first of the content.
    """
    left = end - at - 1
    if left < 0:
        return BAD, np.int64(0), _NAN, at
    tag = np.int64(data[np.uint64(at)])
    at += 1
    if tag == 0xCB:
        if left < 8:
            return BAD, np.int64(0), _NAN, at
        return FLOAT, np.int64(0), load_number(data, at, FLOAT64, True), at + 8
    if tag < 0x80:
        return INT, tag, float(tag), at
    if tag >= 0xE0:
        return INT, tag - 256, float(tag - 256), at
    kind, size, bytes_ = BAD, np.int64(0), np.int64(0)  # bytes of the size
    if tag < 0x90:
        kind, size = MAP, tag & 15
    elif tag < 0xA0:
        kind, size = ARRAY, tag & 15
    elif tag < 0xC0:
        kind, size = STR, tag & 31
    elif tag == 0xC0:
        return NIL, np.int64(0), _NAN, at
    elif tag == 0xC2 or tag == 0xC3:
        return BOOL, tag - 0xC2, float(tag - 0xC2), at
    elif tag == 0xCA:
        if left < 4:
            return BAD, np.int64(0), _NAN, at
        return FLOAT, np.int64(0), load_number(data, at, FLOAT32, True), at + 4
    elif tag >= 0xCC and tag <= 0xD3:
        width = np.int64(1) << (tag & 3)
        if left < width:
            return BAD, np.int64(0), _NAN, at
        if tag == 0xCC:
            whole = np.int64(data[np.uint64(at)])
            return INT, whole, float(whole), at + 1
        code = UINT16
        if tag == 0xCE:
            code = UINT32
        elif tag == 0xCF:
            code = UINT64
        elif tag == 0xD0:
            code = INT8
        elif tag == 0xD1:
            code = INT16
        elif tag == 0xD2:
            code = INT32
        elif tag == 0xD3:
            code = INT64
        number = load_number(data, at, code, True)
        whole = np.int64(0)
        if width == 8:
            whole = np.int64(np.uint64(load64(data, at, True)).view(np.int64))
        else:
            whole = np.int64(number)
        return INT, whole, number, at + width
    elif tag <= 0xC6 and tag >= 0xC4:
        kind, bytes_ = BIN, np.int64(1) << (tag - 0xC4)
    elif tag <= 0xC9 and tag >= 0xC7:
        kind, bytes_ = EXT, np.int64(1) << (tag - 0xC7)
    elif tag <= 0xD8 and tag >= 0xD4:
        kind, size = EXT, np.int64(1) << (tag - 0xD4)
    elif tag <= 0xDB and tag >= 0xD9:
        kind, bytes_ = STR, np.int64(1) << (tag - 0xD9)
    elif tag == 0xDC or tag == 0xDD:
        kind, bytes_ = ARRAY, np.int64(2) << (tag - 0xDC)
    elif tag == 0xDE or tag == 0xDF:
        kind, bytes_ = MAP, np.int64(2) << (tag - 0xDE)
    if left < bytes_:
        return BAD, np.int64(0), _NAN, at
    if bytes_ == 1:
        size = np.int64(data[np.uint64(at)])
    elif bytes_ == 2:
        size = np.int64(load16(data, at, True))
    elif bytes_ == 4:
        size = np.int64(load32(data, at, True))
    at += bytes_
    if kind == EXT:
        at += 1  # its type stands before its content
    least = size + size if kind == MAP else size
    if least > end - at:
        return BAD, np.int64(0), _NAN, at
    return kind, size, _NAN, at
