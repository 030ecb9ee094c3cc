"""A small world around the handover machine: short ways to drive it, and the inputs that the exploration tries."""

from __future__ import annotations

from dataclasses import replace

from edge_monitor.core.authority import Change, Command
from edge_monitor.core.commands import AcceptHandover, CancelHandover, RefuseHandover, RequestHandover
from edge_monitor.core.decision_specs import Criterion, GateSpec, HandoverSpec
from edge_monitor.core.gates import Decision
from edge_monitor.core.handover import Handover
from edge_monitor.core.handover_history import Told, rebuild
from edge_monitor.core.handover_terms import Act, Answer
from edge_monitor.core.samples import Verdict

MS = 1_000_000
S = 1_000_000_000
SIGNED = b"\x07" * 64

#: Steps of 10 s, 5 s, 60 s, 3 s and 2 s: no two sums of a few of them agree by chance.
SPEC = HandoverSpec(
    accept_within=10 * S, complete_within=5 * S, attest_within=60 * S, gates=("resume",), mrm_within=3 * S, lost_after=2 * S,
    observed_within=500 * MS, sees_none=True, sees_both=True,
)  # fmt: skip
LEAF = Criterion(check="a")
GATES = (GateSpec("continue", LEAF, demand=True), GateSpec("resume", LEAF))


class World:
    """A machine, what it was told, and the events that a journal would hold of both."""

    def __init__(self, spec: HandoverSpec = SPEC, gates: tuple[GateSpec, ...] = GATES) -> None:
        self.spec, self.gates = spec, gates
        self.machine = Handover(spec, gates)
        self.seen = Command()
        self.told: list[Told] = []
        self.acts: list[Act] = []

    def see(self, t: int, decision: str, execution: str | None = None) -> list[Act]:
        """An observation of who decides and who acts."""
        after = Command(decision, decision if execution is None else execution)
        change = Change("authority.changed", t, t, self.seen, after, ())
        self._keep(self.machine.advance(t, t))
        self.told.append((
            "authority.changed", t,
            {"after": {"decision": after.decision, "execution": after.execution, "mode": "", "intention": ""}},
        ))  # fmt: skip
        self.seen = after
        return self._keep(self.machine.step(t, t, changes=[change]))

    def judge(self, t: int, gate: str, go: bool, verdict: Verdict = Verdict.FAIL) -> list[Act]:
        """A gate's decision."""
        decision = Decision(gate, go, t, t, Verdict.PASS if go else verdict, ())
        return self._keep(self.machine.step(t, t, decisions=[decision]))

    def jump(self, t: int, step: int) -> list[Act]:
        """The stream's clock steps by ``step`` to ``t``."""
        self.told.append(("clock.jump", t, {"step_s": step / 1e9}))
        return self._keep(self.machine.step(t, t, jump=step))

    def before(self, t: int) -> list[Act]:
        """Time up to ``t``, what falls due at it not yet."""
        return self._keep(self.machine.advance(t, t))

    def until(self, t: int) -> list[Act]:
        """Time up to and including ``t``."""
        return self._keep(self.machine.advance(t, t, inclusive=True))

    def request(self, t: int, to: str, id_: str = "a", person: str = "ada", signature: bytes | None = None) -> Answer:
        """A person's request."""
        return self._do(RequestHandover(t=t, id=id_, to=to, person=person, reason="asked", signature=signature))

    def accept(self, t: int, id_: str = "a", person: str = "ada", signature: bytes | None = SIGNED) -> Answer:
        """A person's acceptance."""
        return self._do(AcceptHandover(t=t, id=id_, person=person, signature=signature, checkpoint="head\n"))

    def refuse(self, t: int, id_: str = "a") -> Answer:
        """A person's refusal."""
        return self._do(RefuseHandover(t=t, id=id_, person="ada", reason="busy"))

    def cancel(self, t: int, id_: str = "a") -> Answer:
        """A person calls a request back."""
        return self._do(CancelHandover(t=t, id=id_, person="ada", reason="not now"))

    def restart(self, seen: int, now: int, *, same_boot: bool = True) -> None:
        """The monitor is killed at ``seen`` and started again at ``now``, from its journal alone."""
        self.machine = rebuild(self.spec, self.gates, self.told, seen=seen, now=now, same_boot=same_boot)
        self.told.append(("monitor.started", now, {"seen_ns": seen, "same_boot": same_boot}))
        self.seen = Command()

    def _do(self, order: AcceptHandover | CancelHandover | RefuseHandover | RequestHandover) -> Answer:
        answer = self.machine.command(order)
        self._keep(answer.acts)
        return answer

    def _keep(self, acts: list[Act]) -> list[Act]:
        self.acts += acts
        self.told += [(act.type, act.t_effective, act.plain()) for act in acts]
        return acts


def brief(acts: list[Act]) -> list[tuple[int, str]]:
    """Times and types."""
    return [(act.t_effective, act.type) for act in acts]


def driving(then: int | None = None) -> World:
    """Autonomy commands, the gate in motion has been GO."""
    world = World(gates=(replace(GATES[0], mrm_after=then), GATES[1]))
    world.see(0, "autonomy")
    world.judge(1 * S, "continue", True)
    return world


def demanded(then: int | None = None) -> World:
    """A transition demand is open since 10 s."""
    world = driving(then)
    assert brief(world.judge(10 * S, "continue", False)) == [(10 * S, "handover.requested")]
    return world
