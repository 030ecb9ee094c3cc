"""The C library of Cyclone DDS, as the wheel ``cyclonedds`` brings it: what is used of it, with argument types."""

from __future__ import annotations

import ctypes as c
from functools import cache
from typing import Any

from ..errors import ConfigError

INFINITE = (1 << 63) - 1  #: ns
PUBLICATIONS = 0x7FFF0000 + 3  #: the topic on which every publication of the domain is announced
DATA = 2  #: kind of serialized data: a sample, not only its key

# Bits of a status mask.
DEADLINE_MISSED, INCOMPATIBLE_QOS, SAMPLE_LOST, SAMPLE_REJECTED, LIVELINESS = 1 << 2, 1 << 4, 1 << 5, 1 << 6, 1 << 10

_Handle, _Time = c.c_int32, c.c_int64


class Blob(c.Structure):
    """Serialized meta data of a type: none."""

    _fields_ = (("data", c.c_void_p), ("size", c.c_uint32))


class Descriptor(c.Structure):
    """What Cyclone is told of a type (``dds_topic_descriptor_t``)."""

    _fields_ = (
        ("size", c.c_uint32), ("align", c.c_uint32), ("flags", c.c_uint32), ("keys_count", c.c_uint32),
        ("name", c.c_char_p), ("keys", c.c_void_p), ("ops_count", c.c_uint32), ("ops", c.POINTER(c.c_uint32)),
        ("meta", c.c_char_p), ("information", Blob), ("mapping", Blob), ("representations", c.c_uint32),
    )  # fmt: skip


class Endpoint(c.Structure):
    """A publication as it is announced (``dds_builtintopic_endpoint_t``)."""

    _fields_ = (
        ("key", c.c_uint8 * 16), ("participant", c.c_uint8 * 16), ("participant_handle", c.c_uint64),
        ("topic", c.c_char_p), ("type", c.c_char_p), ("qos", c.c_void_p),
    )  # fmt: skip


class Info(c.Structure):
    """What comes with a sample (``dds_sample_info_t``)."""

    _fields_ = (
        ("sample_state", c.c_uint32), ("view_state", c.c_uint32), ("instance_state", c.c_uint32), ("valid", c.c_bool),
        ("stamp", c.c_int64), ("instance", c.c_uint64), ("publication", c.c_uint64), ("generations", c.c_uint32 * 5),
    )  # fmt: skip


class Total(c.Structure):
    """The beginning that most statuses share."""

    _fields_ = (("total", c.c_uint32), ("change", c.c_int32), ("last", c.c_uint64), ("more", c.c_uint64))


class Alive(c.Structure):
    """How many publishers keep their promise to be alive (``dds_liveliness_changed_status_t``)."""

    _fields_ = (
        ("alive", c.c_uint32), ("dead", c.c_uint32), ("alive_change", c.c_int32), ("dead_change", c.c_int32),
        ("last", c.c_uint64),
    )  # fmt: skip


class Piece(c.Structure):
    """A piece of memory (``iovec``)."""

    _fields_ = (("base", c.c_void_p), ("size", c.c_size_t))


_P = c.c_void_p
_FUNCTIONS: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "dds_create_domain": (_Handle, (c.c_uint32, c.c_char_p)),
    "dds_create_participant": (_Handle, (c.c_uint32, _P, _P)),
    "dds_create_topic": (_Handle, (_Handle, c.POINTER(Descriptor), c.c_char_p, _P, _P)),
    "dds_create_reader": (_Handle, (_Handle, _Handle, _P, _P)),
    "dds_create_writer": (_Handle, (_Handle, _Handle, _P, _P)),
    "dds_create_listener": (_P, (_P,)),
    "dds_delete_listener": (None, (_P,)),
    "dds_lset_data_available_arg": (c.c_int32, (_P, _P, _P, c.c_bool)),
    "dds_delete": (c.c_int32, (_Handle,)),
    "dds_create_qos": (_P, ()),
    "dds_delete_qos": (None, (_P,)),
    "dds_free": (None, (_P,)),
    "dds_qset_history": (None, (_P, c.c_int, c.c_int32)),
    "dds_qset_reliability": (None, (_P, c.c_int, _Time)),
    "dds_qset_durability": (None, (_P, c.c_int)),
    "dds_qset_deadline": (None, (_P, _Time)),
    "dds_qset_liveliness": (None, (_P, c.c_int, _Time)),
    "dds_qset_userdata": (None, (_P, c.c_char_p, c.c_size_t)),
    "dds_qget_reliability": (c.c_bool, (_P, c.POINTER(c.c_int), c.POINTER(_Time))),
    "dds_qget_durability": (c.c_bool, (_P, c.POINTER(c.c_int))),
    "dds_qget_deadline": (c.c_bool, (_P, c.POINTER(_Time))),
    "dds_qget_liveliness": (c.c_bool, (_P, c.POINTER(c.c_int), c.POINTER(_Time))),
    "dds_qget_userdata": (c.c_bool, (_P, c.POINTER(_P), c.POINTER(c.c_size_t))),
    "dds_take": (c.c_int32, (_Handle, c.POINTER(_P), _P, c.c_size_t, c.c_uint32)),
    "dds_return_loan": (c.c_int32, (_Handle, c.POINTER(_P), c.c_int32)),
    "dds_takecdr": (c.c_int32, (_Handle, _P, c.c_uint32, _P, c.c_uint32)),
    "dds_writecdr": (c.c_int32, (_Handle, _P)),
    "dds_get_entity_sertype": (c.c_int32, (_Handle, c.POINTER(_P))),
    "ddsi_serdata_from_ser_iov": (_P, (_P, c.c_int, c.c_size_t, c.POINTER(Piece), c.c_size_t)),
    "dds_get_status_changes": (c.c_int32, (_Handle, c.POINTER(c.c_uint32))),
    "dds_get_requested_deadline_missed_status": (c.c_int32, (_Handle, c.POINTER(Total))),
    "dds_get_requested_incompatible_qos_status": (c.c_int32, (_Handle, c.POINTER(Total))),
    "dds_get_sample_lost_status": (c.c_int32, (_Handle, c.POINTER(Total))),
    "dds_get_sample_rejected_status": (c.c_int32, (_Handle, c.POINTER(Total))),
    "dds_get_liveliness_changed_status": (c.c_int32, (_Handle, c.POINTER(Alive))),
    "dds_strretcode": (c.c_char_p, (c.c_int32,)),
}


@cache
def library() -> Any:
    """The library, loaded. Raises ``ConfigError`` where it is not installed."""
    try:
        from cyclonedds.internal import load_cyclonedds

        found = load_cyclonedds()
        for name, (result, arguments) in _FUNCTIONS.items():
            function = getattr(found, name)
            function.restype, function.argtypes = result, arguments
        return found
    except (ImportError, AttributeError, OSError) as error:
        raise ConfigError(
            f"dds: its library can't be used ({error}): install it with `pip install 'edge-monitor[dds]'`"
        ) from None


def said(code: int) -> str:
    """An error code in the library's words."""
    return str((library().dds_strretcode(code) or b"?").decode())
