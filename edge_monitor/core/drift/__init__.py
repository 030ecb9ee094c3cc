"""Change detectors on flat float64 state: one file a family, one step a value, and the same step in a batch.

A detector is a function ``step(x, params, p, state, q) -> (statistic, alarm)``: its constants lie in ``params`` from
``p`` on, its state in ``state`` from ``q`` on. All-zero state is a detector that has seen nothing. The statistic is NaN
until the detector is ready; an alarm restarts it (those that look at a window keep the window). NaN never enters state.

``*_many(x, params, state, statistic, alarm)`` runs the same step over a batch: ``x``, ``statistic`` (float64) and
``alarm`` (uint8) have the shape (streams, samples); ``params`` and ``state`` are flat, one stretch after the other a
stream. Cutting a batch anywhere changes nothing.
"""
