"""Pages of the catalogue: what is registered, who approved it, where it comes from, and what is not as it should be."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import contextmanager

from starlette.responses import Response

from edge_monitor.errors import UsageError

from ..catalogue.documents import DecisionDocument, ExceptionDocument, ItemDocument, PartDocument, StandingDocument
from ..catalogue.exceptions import ROLES, SETTLED, exception, exceptions, owners
from ..catalogue.fleet import active
from ..catalogue.judging import EXCEPTIONS
from ..catalogue.kinds import KINDS
from ..catalogue.lineage import of_event
from ..catalogue.opening import PEOPLE_FILE
from ..catalogue.pages import item_page
from ..catalogue.reading import MANY, Catalogue
from ..store import Transaction
from .access import Visitor
from .answers import MOST_ROWS, digest, file, link, moment_of, named_log, wants_file, whole
from .app import Asked, Refused, Site
from .coverage import coverage
from .downloads import Table
from .missions import episodes, shown_of
from .shown import State, moment, short

_GOOD = ("approved", "promoted")
_UNSAID = ("not approved", "not promoted")


@contextmanager
def catalogue(site: Site, asked: Asked) -> Iterator[Catalogue]:
    """The catalogue in one snapshot, as the people file has it judged now."""
    with site.store.read() as tx:
        yield reading(site, asked, tx)


def reading(site: Site, asked: Asked, tx: Transaction) -> Catalogue:
    """The catalogue within a snapshot."""
    return Catalogue(tx, site.trust(), asked.now_s * 10**9)


def parts(site: Site, asked: Asked, tx: Transaction, robots: list[str]) -> dict[str, list[PartDocument]]:
    """What is active on robots, part by part, and whether each verifies; no parts where nothing has been seen of it."""
    found = active(reading(site, asked, tx), robots)
    return {one["robot"]: one["parts"] for one in found}


def show_catalogue(site: Site, asked: Asked, visitor: Visitor) -> Response:
    """What is registered, the newest first."""
    kind, search, owner = (asked.query.get(name, "")[:200] for name in ("kind", "search", "owner"))
    if kind and kind not in KINDS:
        raise Refused(400, "There is no such kind of thing.", f"There is {', '.join(KINDS)}.")
    most = MANY if wants_file(asked) else 100
    with catalogue(site, asked) as found:
        items = found.items(kind, search, owner, digest(asked.query, "after"), most)
    if wants_file(asked):
        columns = ("thing", "kind", "owner", "registered by", "added (UTC)", "approved", "promoted", "digest")
        rows = [
            (one["alias"], one["kind"], one["owner"], one["registered_by"], moment(one["added_ns"] // 10**9),
             one["approval"]["state"], one["promotion"]["state"], one["digest"])
            for one in items
        ]  # fmt: skip
        return file(asked, Table("catalogue", columns, rows))
    following = link(asked, after=items[-1]["digest"]) if len(items) == most else ""
    return site.render(
        "catalogue.html", asked, visitor, title="Catalogue", items=[(one, *_states(one)) for one in items], kinds=KINDS,
        kind=kind, search=search, owner=owner, next=following,
    )  # fmt: skip


def show_item(site: Site, asked: Asked, visitor: Visitor) -> Response:
    """A thing: who registered, approved and promoted it, what is said of it, where it comes from, who uses it."""
    with catalogue(site, asked) as found:
        item = found.get(digest(asked.parts, "digest"))
        if item is None:
            raise Refused(404, "The catalogue has no such thing.", "A robot that uses it opens an exception by itself.")
        page = item_page(found, item.digest)
    statements = [(one, standing(one["standing"])) for one in page["statements"]]
    return site.render(
        "item.html", asked, visitor, title=page["item"]["alias"], page=page, item=page["item"], statements=statements,
        registered=standing(page["item"]["standing"]), states=_states(page["item"]), lineage=page["lineage"],
        exceptions=[(one, urgency(one)) for one in page["exceptions"]],
    )  # fmt: skip


def show_claims(site: Site, asked: Asked, visitor: Visitor) -> Response:
    """What is claimed: an envelope says under which limits, its registration in which words."""
    with catalogue(site, asked) as found:
        items = found.items("envelope", limit=MANY)
    return site.render("claims.html", asked, visitor, title="Claims", items=[(one, *_states(one)) for one in items])


def show_claim(site: Site, asked: Asked, visitor: Visitor) -> Response:
    """A claim: its words, what the field shows for it, where it must not be used, what is open, and who checked."""
    since = moment_of(asked.query, "since")
    envelope = digest(asked.parts, "digest")
    with catalogue(site, asked) as found:
        item = found.get(envelope)
        field = shown_of(found.tx, envelope, since)
        if item is None and not field.missions and not since:
            raise Refused(
                404, "No envelope of this digest is registered, and no robot used one.", "Claims lists those that are."
            )
        document = found.document(item) if item is not None else None
        models = [(one, found.get(one)) for one in field.models]
        open_ones = exceptions(found, only_open=True, subject=envelope)
        (seen,) = coverage(found, [envelope], since)
        odd = [one for one in episodes(found.tx, "odd", most=200)[0] if one.wall_ns >= since]
    return site.render(
        "claim.html",
        asked,
        visitor,
        title=f"Claim of {document['alias'] if document else short(envelope)}",
        item=document,
        digest=envelope,
        field=field,
        states=_states(document) if document else None,
        models=[(one, item.alias if item else "") for one, item in models],
        exceptions=[(one, urgency(one)) for one in open_ones],
        since=asked.query.get("since", ""),
        outside=[one for one in odd if one.measured][:20],
        registered=standing(document["standing"]) if document else None,
        coverage=seen,
        never=seen.never(),
    )


def show_lineage(site: Site, asked: Asked, visitor: Visitor) -> Response:
    """From a record back to the data that its model was trained on."""
    with site.store.read() as tx:
        robot, log = named_log(tx, asked)
        if asked.parts["seq"] >= log.held:
            raise Refused(404, "This record is not held here.")
        found = of_event(reading(site, asked, tx), log.number, asked.parts["seq"])
    return site.render(
        "lineage.html",
        asked,
        visitor,
        title=f"Lineage of record {asked.parts['seq']}",
        robot=robot,
        log=log,
        lineage=found,
    )


def show_exceptions(site: Site, asked: Asked, visitor: Visitor) -> Response:
    """What is not as it should be, the newest first."""
    every = asked.query.get("all", "") == "yes"
    robot, owner, kind = (asked.query.get(name, "")[:200] for name in ("robot", "owner", "kind"))
    if kind and kind not in EXCEPTIONS:
        raise Refused(400, "There is no such kind of exception.", f"There is {', '.join(EXCEPTIONS)}.")
    before, most = whole(asked.query, "before", 0), MOST_ROWS if wants_file(asked) else 100
    with catalogue(site, asked) as found:
        rows = exceptions(
            found, only_open=not every, robot=robot, kind=kind, owner=owner, before=before, limit=most + 1
        )
    more = str(rows[most - 1]["id"]) if len(rows) > most else ""
    rows = rows[:most]
    if wants_file(asked):
        columns = (
            "number", "what", "robot", "about", "opened (UTC)", "owner", "deadline (UTC)", "state", "overdue", "words",
        )  # fmt: skip
        cells = [
            (one["id"], one["kind"], one["robot"], one["subject_alias"] or one["subject"], moment(one["opened_ns"] // 10**9),
             one["owner"], moment(one["deadline_ns"] // 10**9), one["state"], "yes" if one["overdue"] else "no", one["words"])
            for one in rows
        ]  # fmt: skip
        return file(asked, Table("exceptions", columns, cells))
    return site.render(
        "exceptions.html", asked, visitor, title="Exceptions", rows=[(one, urgency(one)) for one in rows], kinds=EXCEPTIONS,
        every=every, robot=robot, owner=owner, kind=kind, next=link(asked, before=more) if more else "",
    )  # fmt: skip


def show_exception(site: Site, asked: Asked, visitor: Visitor) -> Response:
    """One exception, what people did about it, and what the visitor types to do something about it."""
    try:
        with catalogue(site, asked) as found:
            one = exception(found, asked.parts["number"])
            own = visitor.person in owners(found, one)
    except UsageError:
        raise Refused(404, "There is no such exception.", "The page of exceptions lists them.") from None
    return site.render(
        "exception.html", asked, visitor, title=f"Exception {one['id']}", one=one, urgency=urgency(one), own=own,
        meaning=EXCEPTIONS.get(one["kind"], one["kind"]), settled=one["state"] in SETTLED, may=bool(visitor.roles & {*ROLES}),
        commands=_commands(site, one["id"], visitor.person), roles=ROLES,
    )  # fmt: skip


def _commands(site: Site, number: int, person: str) -> dict[str, str]:
    """What a person types to change an exception; what they fill in is in capitals."""
    folder, people = site.house.folder, site.people.path
    by = f'--reason "WHY" --person {shlex.quote(person)} --key YOUR.key --dir {shlex.quote(str(folder))}'
    if people != folder / PEOPLE_FILE:
        by += f" --people {shlex.quote(str(people))}"
    verbs = {
        "assign": f"assign {number} --owner ID",
        **{state: f"close {number} --as {state}" for state in SETTLED},
    }
    return {name: f"edge-registry exceptions {verb} {by}" for name, verb in verbs.items()}


def standing(one: StandingDocument) -> State:
    """What a statement is worth."""
    if one["word"] == "verified":
        return State("ok", f"verified, signed by {one['person']}")
    kind = "warn" if one["word"] == "unknown key" else "bad"
    return State(kind, f"{one['word']}: {'; '.join(one['reasons']) or 'nobody who is known signed it'}")


def decided(one: DecisionDocument) -> State:
    """Whether something is approved or promoted, and by whom."""
    when = moment(one["time_ns"] // 10**9) if one["time_ns"] else ""
    if one["state"] in _GOOD:
        until = f", until {moment(one['expires_ns'] // 10**9)}" if one["expires_ns"] else ""
        where = f" to {', '.join(one['robots'])}" if one["robots"] else ""
        return State("ok", f"{one['state']}{where} by {one['person']} on {when}{until}")
    if one["state"] in _UNSAID and not one["reasons"]:
        return State("none", one["state"])
    why = "; ".join(one["reasons"]) or one["reason"]
    return State("bad", one["state"] + (f": {why}" if why else "") + (f" ({one['person']})" if one["person"] else ""))


def verified(found: list[PartDocument] | None) -> State:
    """Whether every part of what is active verifies."""
    if not found:
        return State("none", "not checked: nothing has been seen of it yet")
    wrong = [
        f"{one['alias'] or one['part'] + ' ' + short(one['digest'])}: {one['words']}"
        for one in found
        if not one["verifies"]
    ]
    if wrong:
        return State("bad", "; ".join(wrong))
    return State("ok", f"every part verifies: {'; '.join(one['alias'] or one['words'] for one in found)}")


def urgency(one: ExceptionDocument) -> State:
    """How an exception stands."""
    if one["state"] not in ("open", "mitigating"):
        return State("none", one["state"])
    due = f"due {moment(one['deadline_ns'] // 10**9)}"
    return (
        State("bad", f"{one['state']}, overdue: {due}") if one["overdue"] else State("warn", f"{one['state']}, {due}")
    )


def _states(one: ItemDocument) -> tuple[State, State]:
    return decided(one["approval"]), decided(one["promotion"])
