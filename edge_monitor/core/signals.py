"""What a signal is: where it comes from and how long it counts. Made by the envelope, read by layout and plan."""

from __future__ import annotations

from dataclasses import dataclass, replace

from .formula.arx import Residual
from .formula.term import Term


@dataclass(frozen=True, slots=True)
class Signal:
    """One monitored quantity.

    ``field`` is a path into the message: ``twist.twist.linear.x``, ``ranges[3]``, ``position[2]``,
    ``detections[*].results[0].hypothesis.score``, ``header.stamp`` (latency: receive time minus stamp, in seconds),
    ``[2]`` (of a message that is itself a list), or empty: the presence of a message (value 1). A path that ends at an
    array or a vector of numbers needs ``reduce``: one of ``min max mean norm p05 p50 p95 count finite_ratio``. A path that
    ends at text gives the text's number in the text table. ``topic`` may carry a ULog instance: ``battery_status[1]``.

    ``statistic`` is one of the message's statistics (``core.perception``) instead of a field; to the extractor it is the
    presence of a message.

    A derived signal has no topic but an ``expr`` over other signals: it has a new value with each of theirs. Or it is the
    ``residual`` of a response to commands: it has a new value with each of the response.
    """

    name: str
    topic: str
    field: str = ""
    type: str | None = None  #: message type; None accepts what the recording says
    reduce: str | None = None
    unit: str = ""
    max_age: int | None = None  #: ns after which the value no longer counts; None: never (declared as such)
    scale: float = 1.0  #: value = raw * scale + offset
    offset: float = 0.0
    values: tuple[tuple[str, float], ...] = ()  #: names of states, for reading and for ``equals``/``one_of``
    watch: str = ""  #: "" | "change" | "each": rows for authority and reasons
    statistic: str = ""
    expr: Term | None = None  #: what a derived signal is made of
    residual: Residual | None = None

    @property
    def made_of(self) -> tuple[str, ...]:
        """The signals that a derived signal is made of; none of one that has a topic."""
        made = self.expr or self.residual
        return () if made is None else made.signals()

    @property
    def meaning(self) -> Signal:
        """The signal without what does not change its values: how long they count, and who watches them."""
        return replace(self, max_age=None, watch="")
