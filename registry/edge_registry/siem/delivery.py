"""What an output is, and how it fails."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from edge_monitor.errors import EdgeMonitorError

from .shipment import Shipment


class DeliveryError(EdgeMonitorError):
    """A batch was not acknowledged. It is sent again, whole, and its records have the same ids then."""

    exit_code = 1


class Output(Protocol):
    """Where records go. ``certain``: what :meth:`send` returned from was taken, even by a receiver that died right after."""

    certain: bool

    def send(self, batch: Sequence[Shipment]) -> None:
        """Send a batch; returns when it was acknowledged. Raises ``DeliveryError``."""

    def close(self) -> None:
        """Give the connection back."""
