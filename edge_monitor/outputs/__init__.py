"""Where decisions go: the wire to consumers, ROS 2 graphs, vehicles."""

from __future__ import annotations

from collections.abc import Callable, Sequence


def everywhere(sends: Sequence[Callable[[list[bytes]], None]]) -> Callable[[list[bytes]], None]:
    """A function that sends over all of them, in their order."""
    if len(sends) == 1:
        return sends[0]

    def send(parts: list[bytes]) -> None:
        for one in sends:
            one(parts)

    return send
