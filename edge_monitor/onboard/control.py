"""The control socket's requests and answers: MessagePack maps, ``{"do": verb, …}`` → ``{"ok": true, …}``.

Verbs: ``go`` (gate), ``status``, ``terms`` (of the handover ``id``), ``command`` (one of ``core.commands``, its time filled in
here), ``keep`` (``person``, ``reason``: the black box's window around now), ``receipt`` (``note``: what a registry has
signed). ``envelope.reload`` is answered with the number by which ``status`` tells how it stands, as it takes its time. Nothing
in a request is trusted: a person must be in the people file, and may operate, where there is one; a signature must hold.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from ..attestation import verify_attestation
from ..core.commands import (
    AcceptHandover,
    Command,
    EndMission,
    ReloadEnvelope,
    ReportAction,
    RequestHandover,
    RestoreLatch,
    Waive,
    from_payload,
)
from ..errors import EdgeMonitorError
from ..journal.notes import parse_checkpoint
from ..people import People, PersonKey, Signer
from .publication import Publication

LARGEST = 1 << 16  #: bytes of a request
MOST_USED = 65_536  #: signatures that are remembered
Answer = dict[str, Any]
#: Carries out a command now (ns): tickets of its events in the journal, and why it was not carried out.
Obey = Callable[[Command, int], tuple[list[int | None], str]]
#: Keeps the window around now, for a person and a reason: tickets likewise.
Keep = Callable[[str, str, int], list[int | None]]


@dataclass(frozen=True, slots=True)
class Reply:
    """What is answered, once the journal holds ``tickets``."""

    body: bytes
    tickets: list[int] = field(default_factory=list)


class Control:
    """Answers requests on behalf of a loop."""

    def __init__(
        self,
        publication: Publication,
        status: Callable[[int], bytes],
        obey: Obey,
        wall: Callable[[], int],
        people: People | None = None,
        *,
        keep: Keep | None = None,
        reload: Callable[[ReloadEnvelope], int] | None = None,
        log: Callable[[], tuple[str, int, int]] | None = None,
        receive: Callable[[str], int] | None = None,
    ) -> None:
        """``status``: the state at a time (ns), as MessagePack. ``wall``: ns since 1970, for the validity of keys.

        ``reload``: begins to put another envelope in force. ``log``: origin of the journal, its size when this run began,
        and now: what is signed for later must have seen this run. ``receive``: stores a registry's receipt.
        """
        self._publication = publication
        self._status = status
        self._obey = obey
        self._wall = wall
        self._people = people
        self._keep = keep
        self._reload = reload
        self._log = log
        self._receive = receive
        self._used: set[bytes] = set()  # signatures that have been taken, each of which counts once

    def __call__(self, request: bytes, now: int) -> Reply:
        """The answer to a request that came at ``now`` (ns). Never raises for what is in the request."""
        try:
            return self._do(self._parsed(request), now)
        except EdgeMonitorError as error:
            return Reply(msgspec.msgpack.encode({"ok": False, "error": " ".join(str(error).split())}))

    def _parsed(self, request: bytes) -> dict[str, Any]:
        if len(request) > LARGEST:
            raise EdgeMonitorError(f"a request has {LARGEST} bytes at most, this one {len(request)}")
        try:
            return msgspec.msgpack.decode(request, type=dict[str, Any])
        except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
            raise EdgeMonitorError("a request is a MessagePack map with text keys, such as {'do': 'status'}") from None

    def _do(self, request: dict[str, Any], now: int) -> Reply:
        verb = request.get("do")
        if verb == "go":
            gate, known = request.get("gate"), self._publication.gates
            if gate not in known:
                raise EdgeMonitorError(f"no gate is named {gate!r}; there is {', '.join(known) or 'none'}")
            return _reply(self._publication.answer(str(gate)))
        if verb == "status":
            return _reply({"state": msgspec.Raw(self._status(now))})
        if verb == "terms":
            terms = self._publication.handover_terms(str(request.get("id")))
            if terms is None:
                raise EdgeMonitorError(f"no handover {request.get('id')!r} is open or waits for a signature")
            return _reply({"terms": terms})
        if verb == "command":
            return self._command(request.get("command"), now)
        if verb == "keep":
            return self._kept(request, now)
        if verb == "receipt":
            return self._received(request.get("note"))
        raise EdgeMonitorError(f"there is no verb {verb!r}; there is: command, go, keep, receipt, status, terms")

    def _command(self, document: object, now: int) -> Reply:
        if not isinstance(document, dict) or "t" in document:
            raise EdgeMonitorError("a command is a map of its fields without `t`: its time is that of its arrival")
        order = from_payload({**document, "t": now})
        if isinstance(order, ReportAction):
            raise EdgeMonitorError(
                f"{order.word}: is sent to a source, on its own topic (docs/wire.md), not to --control"
            )
        if isinstance(order, RestoreLatch):
            raise EdgeMonitorError(f"{order.word}: is not taken from outside; start the monitor anew")
        self._trust(order)
        if isinstance(order, ReloadEnvelope):
            return self._reloading(order)
        tickets, refused = self._obey(order, now)
        if not refused:
            self._used.update(_signatures(order))
        if None in tickets:
            refused = refused or "carried out, but the journal had no room for it"
        body = {"ok": not refused, **({"error": refused} if refused else {})}
        return Reply(msgspec.msgpack.encode(body), [ticket for ticket in tickets if ticket is not None])

    def _reloading(self, order: ReloadEnvelope) -> Reply:
        if self._reload is None:
            raise EdgeMonitorError(f"{order.word}: this monitor takes no other envelope; start it anew")
        if order.digest or order.approval is not None:
            raise EdgeMonitorError(f"{order.word}: digest and approval are found out here; give path and file")
        return _reply({"reload": self._reload(order)})

    def _kept(self, request: dict[str, Any], now: int) -> Reply:
        # Who asks and why is judged as of a command, though it is none: it decides nothing.
        order = EndMission(t=now, person=request.get("person", ""), reason=request.get("reason", ""))
        self._trust(order)
        if self._keep is None:
            raise EdgeMonitorError("this monitor keeps nothing")
        tickets = self._keep(order.person, order.reason, now)
        if None in tickets:
            raise EdgeMonitorError("kept, but the journal had no room to say so")
        return Reply(msgspec.msgpack.encode({"ok": True}), [ticket for ticket in tickets if ticket is not None])

    def _received(self, note: object) -> Reply:
        """A receipt is a registry's word, under its key: whoever brings it."""
        if self._receive is None:
            raise EdgeMonitorError("this monitor has no registry: start it with --registry")
        return _reply({"size": self._receive(note if isinstance(note, str) else "")})

    def _trust(self, order: Command) -> None:
        """Who gives a command may; what they signed, they signed. Without a people file a name is a name."""
        if self._people is None:
            if getattr(order, "signature", None) or getattr(order, "signatures", None):
                raise EdgeMonitorError("a signature can't be checked: the monitor runs without --people")
            return
        persons = order.persons if isinstance(order, Waive) else (getattr(order, "person", ""),)
        for person in persons:
            self._operator(person)
        if isinstance(order, AcceptHandover) and order.signature is not None:
            terms = self._publication.handover_terms(order.id)
            if terms is None:
                raise EdgeMonitorError(f"handover {order.id!r} is not open, so that nothing can be signed of it")
            parameters = {**terms, "person": order.person}
            verify_attestation(parameters, order.checkpoint, order.signature, order.person, self._people, self._wall())
        if isinstance(order, RequestHandover) and order.signature is not None:
            verify_attestation(
                order.signed(), order.checkpoint, order.signature, order.person, self._people, self._wall()
            )
            self._is_new(order.checkpoint, _signatures(order))
        if isinstance(order, Waive):
            if len(order.signatures) != len(persons):
                raise EdgeMonitorError("a waiver is signed by each of its persons: give one signature each")
            for person, signature in zip(persons, order.signatures, strict=True):
                keys = self._valid_keys(person)
                if not any(key.key.verify(order.text(), signature) for key in keys):
                    raise EdgeMonitorError(f"no key of {person} signed this waiver; sign anew")
            self._is_new(order.checkpoint, _signatures(order))

    def _is_new(self, checkpoint: str, signatures: Sequence[bytes]) -> None:
        """What is signed for this run counts in it alone, and once: times in it are of this run's clock."""
        if self._log is not None:
            origin, begun, size = self._log()
            seen = parse_checkpoint(checkpoint)
            if seen.origin != origin:
                raise EdgeMonitorError(f"it was signed for the journal {seen.origin}, not {origin}; sign anew")
            if not begun < seen.size <= size:
                raise EdgeMonitorError("it was signed before this run of the monitor began; sign anew")
        if self._used.intersection(signatures):
            raise EdgeMonitorError("this signature has been used already; sign anew")
        if len(self._used) > MOST_USED:
            raise EdgeMonitorError(f"{MOST_USED} signatures have been taken in this run; start the monitor anew")

    def _operator(self, person: str) -> None:
        assert self._people is not None
        known = self._people.persons.get(person)
        if known is None:
            raise EdgeMonitorError(f"the people file has no person {person!r}; add them, or act as one it has")
        self._valid_keys(person)

    def _valid_keys(self, person: str) -> list[PersonKey]:
        """The keys of a person by which they may operate now. Raises ``EdgeMonitorError`` where there is none."""
        assert self._people is not None
        known, now = self._people.persons[person], self._wall()
        found = [(key, list(Signer(known, key).refusals("operator", now, now))) for key in known.keys]
        valid = [key for key, refusals in found if not refusals]
        if not valid:
            why = "; ".join(refusal.message for refusal in found[0][1]) if found else f"{person} has no key"
            raise EdgeMonitorError(why)
        return valid


def _signatures(order: Command) -> tuple[bytes, ...]:
    """What counts once: signatures over nothing that this monitor has made."""
    if isinstance(order, Waive):
        return order.signatures
    if isinstance(order, RequestHandover) and order.signature is not None:
        return (order.signature,)
    return ()


def _reply(answer: Answer) -> Reply:
    return Reply(msgspec.msgpack.encode({"ok": True, **answer}))
