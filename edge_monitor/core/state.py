"""Rows that the plan fixes and the engine changes: constant parameters beside dynamic state, all flat and padding-free.

Times are int64 ns, values in the signal's unit. ``UNSEEN`` stands for "has not been", ``NEVER`` for "is not due".
"""

from __future__ import annotations

import numpy as np

#: Constant part of a signal. ``refs``: slice of the plan's list of checks that read it. ``watch``: 0 no, 1 on change,
#: 2 each sample. ``role``: bit 0 = the mode, bit 1 = the mission is active while the value is ``active_value``,
#: bit 2 = derived from others, so that its loss is no news of an input.
SIGNAL_ROW = np.dtype(
    [
        ("max_age", "<i8"),
        ("active_value", "<f8"),
        ("refs_start", "<i4"),
        ("refs_len", "<i4"),
        ("watch", "<i4"),
        ("role", "<i4"),
    ]
)

#: Dynamic part of a signal. ``count``: samples since the last reset. ``shown``: value last reported to watchers.
#: ``lost``: it has been reported as lost. ``listed``: it is in the open instant's list.
SIGNAL_STATE = np.dtype(
    [
        ("t", "<i8"),
        ("deadline", "<i8"),
        ("count", "<i8"),
        ("value", "<f8"),
        ("shown", "<f8"),
        ("cause", "<i4"),
        ("shown_cause", "<i4"),
        ("lost", "<i4"),
        ("listed", "<i4"),
    ]
)

#: Constant part of a check. ``a b c``: signals, -1 where absent. ``span``: the limit of checks on time, ns.
#: ``n_min n_max``: limits as message counts. ``table``: slice of the plan's numbers. ``ring``, ``pool``: slices of the
#: state's time-value entries and of its float64 numbers. ``node``: slice of the nodes that make up its formula.
CHECK_ROW = np.dtype(
    [
        ("fail_for", "<i8"),
        ("pass_for", "<i8"),
        ("window", "<i8"),
        ("period", "<i8"),
        ("span", "<i8"),
        ("max", "<f8"),
        ("min", "<f8"),
        ("leave_max", "<f8"),
        ("leave_min", "<f8"),
        ("wrap", "<f8"),
        ("n_min", "<i8"),
        ("n_max", "<i8"),
        ("code", "<i4"),
        ("latch", "<i4"),
        ("a", "<i4"),
        ("b", "<i4"),
        ("c", "<i4"),
        ("keep_out", "<i4"),
        ("table_start", "<i4"),
        ("table_len", "<i4"),
        ("ring_start", "<i4"),
        ("ring_len", "<i4"),
        ("pool_start", "<i4"),
        ("pool_len", "<i4"),
        ("node_start", "<i4"),
        ("node_len", "<i4"),
    ]
)

#: Dynamic part of a check. ``known``: the debounced verdict that the last known values gave (-1: none yet).
#: ``due``: end of a debounce; ``wake``: when time alone changes what the family says. ``worst``: smallest margin yet,
#: from ``max``/``min``.
#: ``n0 n1 n2 x0 x1``: the family's own; ``head len``: its ring.
CHECK_STATE = np.dtype(
    [
        ("fail_since", "<i8"),
        ("pass_since", "<i8"),
        ("due", "<i8"),
        ("wake", "<i8"),
        ("t_changed", "<i8"),
        ("fail_ns", "<i8"),
        ("unknown_ns", "<i8"),
        ("worst_t", "<i8"),
        ("fails", "<i8"),
        ("n0", "<i8"),
        ("n1", "<i8"),
        ("n2", "<i8"),
        ("x0", "<f8"),
        ("x1", "<f8"),
        ("margin", "<f8"),
        ("value", "<f8"),
        ("limit", "<f8"),
        ("worst", "<f8"),
        ("verdict", "<i4"),
        ("cause", "<i4"),
        ("known", "<i4"),
        ("raw", "<i4"),
        ("latched", "<i4"),
        ("listed", "<i4"),
        ("head", "<i4"),
        ("len", "<i4"),
    ]
)

#: A derived signal: ``node``: slice of the nodes of its expression. ``heard``: news of the signals among so many of its
#: first nodes bring it up to date.
DERIVED_ROW = np.dtype([("signal", "<i4"), ("node_start", "<i4"), ("node_len", "<i4"), ("heard", "<i4")])

#: The stream as a whole. ``now``: time reached. ``next``: no deadline is earlier. ``open``: 1 inside an instant,
#: 2 inside one that is being dropped. ``n_signals n_checks``: lengths of the open instant's lists.
HEAD = np.dtype(
    [
        ("now", "<i8"),
        ("first", "<i8"),
        ("next", "<i8"),
        ("dropped", "<i8"),
        ("jumps", "<i8"),
        ("samples", "<i8"),
        ("open", "<i4"),
        ("n_signals", "<i4"),
        ("n_checks", "<i4"),
        ("reserved", "<i4"),
    ]
)

#: One entry of a check's ring: a time and a value.
RING = np.dtype([("t", "<i8"), ("v", "<f8")])
