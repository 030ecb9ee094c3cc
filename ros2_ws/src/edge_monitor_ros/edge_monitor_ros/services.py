"""Services: the same requests as over the control socket, so that they are checked and journaled alike.

Each waits for its answer in a thread of its own, since it may come late (a reload compiles), and the node goes on meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any

from edge_monitor_msgs.srv import AcknowledgeHandover, GoNoGo, ReloadEnvelope, ResetLatch
from rclpy.task import Future

from edge_monitor.errors import EdgeMonitorError
from edge_monitor.onboard.client import RefusedError, ask, reload

from .filling import filled

if TYPE_CHECKING:
    from .node import MonitorNode


class Services:
    """Answers on behalf of a node."""

    def __init__(self, node: MonitorNode) -> None:
        self._node = node
        node.create_service(GoNoGo, "~/go", self._go)
        node.create_service(AcknowledgeHandover, "~/acknowledge", self._acknowledge)
        node.create_service(ResetLatch, "~/reset_latch", self._reset_latch)
        node.create_service(ReloadEnvelope, "~/reload_envelope", self._reload)

    async def _wait(self, response: Any, asking: Callable[[str], Any]) -> Any:
        """Do ``asking`` with the control address; the response says how it went."""
        if self._node.onboard is None:
            response.ok, response.error = False, "the monitor is not active"
            return response
        control, done = self._node.text("control"), Future(executor=self._node.executor)

        def run() -> None:
            try:
                asking(control)
                done.set_result("")
            except EdgeMonitorError as error:
                done.set_result(" ".join(str(error).split()))
            except Exception as error:
                done.set_result(f"it failed: {error}")

        Thread(target=run, name="request", daemon=True).start()
        response.error = await done
        response.ok = not response.error
        return response

    async def _command(self, response: Any, **command: Any) -> Any:
        return await self._wait(response, lambda control: ask(control, {"do": "command", "command": command}))

    async def _go(self, request: GoNoGo.Request, response: GoNoGo.Response) -> GoNoGo.Response:
        await self._wait(response, lambda control: ask(control, {"do": "go", "gate": request.gate}))
        if response.ok and self._node.reports is not None:
            filled(response.decision, self._node.reports.decision(request.gate))
        return response

    async def _acknowledge(self, request: Any, response: Any) -> Any:
        by: dict[str, Any] = {"id": request.id, "person": request.person}
        if request.accept:
            return await self._command(response, command="handover.accept", **by)
        return await self._command(response, command="handover.refuse", reason=request.reason, **by)

    async def _reset_latch(self, request: Any, response: Any) -> Any:
        by = {"person": request.person, "reason": request.reason}
        return await self._command(response, command="latch.reset", check=request.check, **by)

    async def _reload(self, request: Any, response: Any) -> Any:
        path = Path(request.path or self._node.text("envelope"))

        def put_in_force(control: str) -> None:
            found = reload(control, path, person=request.person)["reload"]
            if found["phase"] == "rejected":
                raise RefusedError("; ".join(message for _, message in found["reasons"]))

        return await self._wait(response, put_in_force)
