"""From a file to an :class:`Envelope`: read, validate, cross-check, apply the risk profile; all problems at once."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path as FilePath
from typing import TYPE_CHECKING, Any, TypeVar, get_args

from ..core.check_spec import CheckSpec
from ..core.decision_specs import AuthoritySpec, GateSpec, HandoverSpec
from ..core.odd import Axis, BinSpec, OddSpec
from ..core.signals import Signal
from ..errors import ConfigError, UsageError
from .black_box import BlackBox, BlackBoxSpec
from .check_model import CheckModel
from .checks import CHECK_MODELS
from .delivery import Delivery, deliveries
from .derived import cycle, derived_term
from .digest import Content
from .document import MAX_BYTES, Document
from .domain import Odd, bin_name
from .fields import Model, Risk
from .formulas import names_in
from .hard_cases import HardCases
from .models import Authority, Defaults, Gate, Handover, Header, Mission, SignalModel
from .problems import EnvelopeError, Finding, Path, Problem, nearest, shown
from .residual import of_residuals, residual_findings, unusable
from .sensors import DISPLAY_ONLY, KINDS, SensorModel, bare, sensor_findings, statistic_findings
from .validation import name_findings, validate

if TYPE_CHECKING:
    from ..core.perception.hard_cases import HardCaseSpec

FORMAT = 1
LONGEST_GATE = 32  #: characters; a lease has so much room for the name (docs/consumer.md)
SECTIONS = (
    "edge_monitor", "envelope", "defaults", "signals", "sensors", "odd", "hard_cases", "checks", "authority", "gates",
    "handover", "black_box", "mission",
)  # fmt: skip
REQUIRED = ("edge_monitor", "envelope", "signals", "checks")
#: Every field of a check may be overridden by a profile, except what makes it another check.
NOT_OVERRIDDEN = ("kind",)

Some = TypeVar("Some", bound=Model)


@dataclass(frozen=True, slots=True)
class Envelope:
    """An envelope file, checked, with one risk profile applied.

    Signals, checks and gates are in the order of their names, not of the file, so that two files with one ``digest``
    give one plan. ``digest`` is over the content for all profiles, ``file_digest`` (SHA-256) over the file's bytes; an
    approval is bound to both. ``risk`` says which profile was applied. ``warnings`` are lines like those of errors;
    ``models`` the checks in force as they are written. ``sensors`` are by topic; ``bins`` and ``odd`` are the axes that
    are measured, each a signal of its own (``odd_light``), and the declared domain; ``residuals`` the files of models, as
    written, by their signals; ``hard_case_model`` is the section as it is written; ``deliveries`` what is asked of the
    publishers of topics, where anything is.
    """

    id: str
    version: int
    vehicle: str
    claim: str
    description: str
    digest: str
    signals: tuple[Signal, ...]
    checks: tuple[CheckSpec, ...]
    gates: tuple[GateSpec, ...]
    authority: AuthoritySpec | None
    risk: str
    source: str
    warnings: tuple[str, ...] = ()
    models: Mapping[str, CheckModel] = field(default_factory=dict, compare=False, repr=False)
    sensors: Mapping[str, SensorModel] = field(default_factory=dict)
    bins: tuple[BinSpec, ...] = ()
    odd: OddSpec | None = None
    residuals: Mapping[str, str] = field(default_factory=dict)
    file_digest: str = field(default="", compare=False)
    hard_cases: HardCaseSpec | None = field(default=None, compare=False)
    hard_case_model: HardCases | None = None
    handover: HandoverSpec | None = None
    deliveries: Mapping[str, Delivery] = field(default_factory=dict)
    black_box: BlackBoxSpec = field(default_factory=BlackBoxSpec)

    @property
    def reference_digests(self) -> tuple[str, ...]:
        """Digests of the files that no check's table covers: sensors in order of topics, hard cases of signals."""
        sensors = (self.sensors[topic].referenced for topic in sorted(self.sensors))
        found = [one.content.digest for one in sensors if one is not None and one.content is not None]
        scores = self.hard_case_model.scores if self.hard_case_model else {}
        baselines = (scores[name].reference.content for name in sorted(scores))
        return (*found, *(one.digest for one in baselines if one is not None))


def load(path: str | FilePath, *, risk: str | None = None, references: bool = True) -> Envelope:
    """Read an envelope file and apply the profile ``risk`` (default: the file's own ``mission.risk``).

    ``references``: read the reference files of drift checks and sensors; without them those checks can't be compiled,
    only seen.

    Raises:
        EnvelopeError: a ConfigError with every problem as ``file:line:col: field: problem``.
        ConfigError: the file cannot be read.
        UsageError: the file has no such risk profile.
    """
    try:
        with FilePath(path).open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise ConfigError(f"{path}: cannot read the envelope: {reason}") from None
    return loads(data, source=str(path), risk=risk, references=references)


def loads(data: bytes, *, source: str = "<envelope>", risk: str | None = None, references: bool = True) -> Envelope:
    """Like :func:`load`, of bytes; ``source`` is the file's name in errors."""
    envelope = _Loader(Document(data, source), references).envelope(risk)
    return replace(envelope, file_digest=hashlib.sha256(data).hexdigest())


class _Loader:
    """One file on its way to an envelope. Sections are validated one by one, so that a mistake in one of them does not
    hide those in the others; what cannot be judged because of another mistake is not judged."""

    def __init__(self, document: Document, references: bool) -> None:
        self.document = document
        self.context = {"folder": FilePath(document.source).parent, "references": references}
        self.problems: list[Problem] = list(document.problems)
        # Also the names of entries with mistakes: whoever refers to one is not mistaken himself.
        self.signal_names = document.names("signals")
        self.check_names = document.names("checks")

    def envelope(self, risk: str | None) -> Envelope:
        self._sections()
        header = self._one(Header, "envelope")
        defaults = self._one(Defaults, "defaults") or Defaults.model_validate({})
        mission = self._one(Mission, "mission") or Mission.model_validate({})
        signals = self._many(SignalModel, "signals")
        for name, signal in signals.items():
            self._add(found.under(("signals", name)) for found in signal.findings(defaults.max_age))
        sensors = self._sensors()
        self._add(statistic_findings(signals, sensors, self._raw("sensors")))
        odd = self._one(Odd, "odd")
        authority = self._one(Authority, "authority")
        hard_cases = self._one(HardCases, "hard_cases")
        watches = self._watches(authority, hard_cases)
        lowered = {n: signals[n].lower(n, defaults.max_age, watches.get(n, "")) for n in sorted(signals)}
        if authority and authority.intention in lowered and authority.mode in lowered:
            # Both count the same modes: names given once serve for both.
            mode, intention = lowered[authority.mode], lowered[authority.intention]
            lowered[intention.name] = replace(intention, values=intention.values or mode.values)
        if odd:
            lowered = self._odd(odd, lowered)
        lowered = self._derived(signals, lowered)
        if hard_cases:
            for place, name, _ in hard_cases.references():
                self._add((f.under(("hard_cases",)) for f in self._no_signal(place, name)), key=place[0] == "scores")
            self._add(found.under(("hard_cases",)) for found in hard_cases.findings(lowered))
        checks = self._checks(lowered)
        profiles = self._profiles(mission, lowered)
        gates = self._many(Gate, "gates")
        long = [name for name in gates if len(name) > LONGEST_GATE]
        self._add(
            (Finding(("gates", name), f"is longer than the {LONGEST_GATE} characters of a lease") for name in long),
            key=True,
        )
        handover = self._one(Handover, "handover")
        has_handover = "handover" in self.document.data
        for name, gate in gates.items():
            findings = gate.findings(self.check_names, handover=has_handover)
            self._add(found.under(("gates", name)) for found in findings)
        if handover:
            findings = handover.findings(self.document.names("gates"), authority="authority" in self.document.data)
            self._add(found.under(("handover",)) for found in findings)
        if authority:
            self._authority(authority, lowered)
        black_box = self._one(BlackBox, "black_box")
        if black_box:
            self._add(found.under(("black_box",)) for found in black_box.findings())
        if self.problems:
            raise EnvelopeError(self.problems)
        assert header is not None
        chosen = self._chosen(mission, risk)
        content = Content(
            header=header,
            defaults=defaults,
            signals=signals,
            checks=checks,
            profiles=profiles,
            gates=gates,
            authority=authority,
            mission=mission,
            sensors=sensors,
            odd=odd,
            hard_cases=hard_cases,
            handover=handover,
            black_box=black_box,
        )
        bins, domain = odd.lower(tuple(lowered.values())) if odd else ((), None)
        in_force = checks | profiles.get(chosen, {})
        spec = authority.lower(lowered) if authority else None
        return Envelope(
            id=header.id,
            version=header.version,
            vehicle=header.vehicle,
            claim=header.claim,
            description=header.description,
            digest=content.digest(),
            signals=tuple(lowered.values()),
            checks=tuple(in_force[name].lower(name, lowered) for name in sorted(in_force)),
            gates=tuple(gates[name].lower(name) for name in sorted(gates)),
            authority=spec,
            risk=chosen,
            source=self.document.source,
            warnings=self._warnings(signals, checks, profiles, {*watches, *self._odd_inputs(odd)})
            + self._idle_sensors(signals, sensors),
            models=in_force,
            sensors=sensors,
            bins=bins,
            odd=domain,
            residuals={name: one.residual.model.name for name, one in signals.items() if one.residual},
            hard_cases=hard_cases.lower(lowered) if hard_cases else None,
            hard_case_model=hard_cases,
            handover=handover.lower(spec, lowered) if handover and spec else None,
            deliveries=deliveries((one.topic, one.qos) for one in signals.values()),
            black_box=black_box.lower() if black_box else BlackBoxSpec(),
        )

    def _add(self, findings: Iterable[Finding], *, key: bool = False) -> None:
        for found in findings:
            if not self.document.is_broken(found.path):
                self.problems.append(self.document.problem(found, key=key))

    def _sections(self) -> None:
        data = self.document.data
        unknown = [Finding((key,), "unknown section", key, SECTIONS) for key in data if key not in SECTIONS]
        self._add(unknown, key=True)
        self._add(Finding((section,), "is required") for section in REQUIRED if section not in data)
        version = data.get("edge_monitor", FORMAT)
        if version != FORMAT or isinstance(version, bool):
            message = f"must be {FORMAT}, the format that this program reads; got {shown(version)}"
            self._add([Finding(("edge_monitor",), message)])
        for section in ("signals", "checks"):
            if data.get(section) == {} and not self.document.names(section):
                self._add([Finding((section,), "is empty: there is nothing to monitor")])

    def _validated(self, model: type[Some], raw: object, path: Path) -> Some | None:
        made, findings, unknown = validate(model, raw, path, self.context)
        self._add(findings)
        self._add(unknown, key=True)
        return made

    def _one(self, model: type[Some], section: str) -> Some | None:
        if section not in self.document.data:
            return None
        return self._validated(model, self.document.data[section], (section,))

    def _named(self, section: str) -> dict[str, Any]:
        """The raw entries of a section with usable names."""
        raw = self.document.data.get(section, {})
        if not isinstance(raw, dict):
            self._add([Finding((section,), f"expected a mapping of names to {section}, got {shown(raw)}")])
            return {}
        self._add(name_findings(raw, (section,)), key=True)
        return raw

    def _many(self, model: type[Some], section: str) -> dict[str, Some]:
        made = {name: self._validated(model, raw, (section, name)) for name, raw in self._named(section).items()}
        return {name: one for name, one in made.items() if one is not None}

    def _checks(self, signals: Mapping[str, Signal]) -> dict[str, CheckModel]:
        checks: dict[str, CheckModel] = {}
        for name, raw in self._named("checks").items():
            made, findings, unknown = self._check(raw, ("checks", name), signals)
            self._add(findings)
            self._add(unknown, key=True)
            if made is not None:
                checks[name] = made
        return checks

    def _check(
        self, raw: object, path: Path, signals: Mapping[str, Signal]
    ) -> tuple[CheckModel | None, list[Finding], list[Finding]]:
        """One check: its model, what is wrong with it, and its unknown fields."""
        kinds = tuple(CHECK_MODELS)
        if not isinstance(raw, dict):
            return None, [Finding(path, f"expected a mapping such as `{{kind: bounds, …}}`, got {shown(raw)}")], []
        if "kind" not in raw:
            return None, [Finding((*path, "kind"), f"is required: one of {', '.join(kinds)}")], []
        if raw["kind"] not in kinds:
            kind = raw["kind"] if isinstance(raw["kind"], str) else ""
            message = f"there is no kind of check {shown(raw['kind'])}: one of {', '.join(kinds)}"
            return None, [Finding((*path, "kind"), message, kind, kinds)], []
        check, findings, unknown = validate(CHECK_MODELS[raw["kind"]], raw, path, self.context)
        references = list(check.references() if check else CHECK_MODELS[raw["kind"]].raw_references(raw))
        if CHECK_MODELS[raw["kind"]].strict_references:
            findings += [found.under(path) for place, name in references for found in self._no_signal(place, name)]
        else:
            references = [(place, name) for place, name in references if name in self.signal_names]
        findings += [found.under(path) for found in self._display_only(references, signals)]
        whole = self.document.is_whole(path) and all(name in signals for _, name in references)
        if check is not None and whole:
            findings += [found.under(path) for found in check.findings(signals)]
        return check, findings, unknown

    def _profiles(self, mission: Mission, signals: Mapping[str, Signal]) -> dict[str, dict[str, CheckModel]]:
        """The checks that each profile changes, as they are under it."""
        raw_checks = self._raw("checks")
        profiles: dict[str, dict[str, CheckModel]] = {}
        for risk, overrides in mission.profiles.items():
            profiles[risk] = {}
            for name, fields in overrides.items():
                path: Path = ("mission", "profiles", risk, name)
                if name not in self.check_names:
                    missing = Finding(path, f"no check is named {shown(name)}", name, tuple(self.check_names))
                    self._add([missing], key=True)
                    continue
                refused = [Finding((*path, f), "cannot be changed by a profile") for f in NOT_OVERRIDDEN if f in fields]
                self._add(refused, key=True)
                raw = raw_checks.get(name)
                if refused or not isinstance(raw, dict):
                    continue
                # What is wrong with the check itself has been said; only what the profile adds is said here.
                _, known, known_unknown = self._check(raw, path, signals)
                made, findings, unknown = self._check({**raw, **fields}, path, signals)
                self._add(found for found in findings if found not in known)
                self._add((found for found in unknown if found not in known_unknown), key=True)
                if made is not None:
                    profiles[risk][name] = made
        return profiles

    def _derived(self, models: Mapping[str, SignalModel], signals: dict[str, Signal]) -> dict[str, Signal]:
        """All signals, the derived ones with what they are made of; a cycle is reported where it is closed."""
        made = dict(signals)
        for name, model in models.items():
            if model.residual is not None:
                self._add(found.under(("signals", name)) for found in self._residual(model, signals))
        for name, model in models.items():
            read = {word for _, word in names_in(model.expr)}
            if not model.expr or not all(word in signals for word in read & set(self.signal_names)):
                continue  # what is wrong with an operand has been said
            term, findings = derived_term(model.expr, model.unit, signals)
            self._add(found.under(("signals", name)) for found in findings)
            if term is not None:
                self._add(found.under(("signals", name)) for found in self._display_only_names(term.signals(), signals))
                made[name] = replace(signals[name], expr=term)
        closed = cycle(made)
        for name in closed:
            at = next((offset for offset, word in names_in(models[name].expr) if word in closed), None)
            field = "expr" if models[name].expr else "residual"
            self._add([Finding(("signals", name, field), f"`{name}` is made of itself", offset=at)])
        for name, other in of_residuals(made).items():
            message = f"`{name}` is made of the residual `{other}`: a model is made of what is measured"
            self._add([Finding(("signals", name, "residual"), message)])
        return made

    def _residual(self, model: SignalModel, signals: Mapping[str, Signal]) -> Iterator[Finding]:
        assert model.residual is not None
        references = [(("residual", *place), name) for place, name in model.residual.references()]
        for place, name in references:
            yield from self._no_signal(place, name)
        yield from self._display_only(references, signals)
        if all(name in signals for _, name in references):
            yield from residual_findings(model.residual, model.unit, signals)

    def _display_only_names(self, names: Iterable[str], signals: Mapping[str, Signal]) -> Iterator[Finding]:
        return self._display_only([(("expr",), name) for name in names], signals)

    def _no_signal(self, place: Path, name: str) -> Iterator[Finding]:
        if name not in self.signal_names:
            yield Finding(place, f"no signal is named {shown(name)}", name, tuple(self.signal_names))

    @staticmethod
    def _display_only(references: Iterable[tuple[Path, str]], signals: Mapping[str, Signal]) -> Iterator[Finding]:
        for place, name in references:
            if name in signals and signals[name].statistic in DISPLAY_ONLY:
                yield Finding(place, f"`{name}` is a `{signals[name].statistic}`: for display only, not to decide by")

    def _sensors(self) -> dict[str, SensorModel]:
        raw = self.document.data.get("sensors", {})
        if not isinstance(raw, dict):
            self._add([Finding(("sensors",), f"expected a mapping of topics to sensors, got {shown(raw)}")])
            return {}
        sensors: dict[str, SensorModel] = {}
        for topic, entry in raw.items():
            path: Path = ("sensors", topic)
            kind = entry.get("kind", "camera") if isinstance(entry, dict) else "camera"
            if kind not in KINDS:
                wrong = kind if isinstance(kind, str) else ""
                message = f"there is no kind of sensor {shown(kind)}: one of {', '.join(KINDS)}"
                self._add([Finding((*path, "kind"), message, wrong, tuple(KINDS))])
                continue
            if isinstance(entry, dict) and "kind" not in entry:
                self._add([Finding((*path, "kind"), f"is required: one of {', '.join(KINDS)}")])
                continue
            sensor = self._validated(KINDS[kind], entry, path)
            if sensor is not None:
                sensors[topic] = sensor
        self._add(sensor_findings(sensors))
        return sensors

    def _odd(self, odd: Odd, signals: Mapping[str, Signal]) -> dict[str, Signal]:
        """All signals with those of the bins, in the order of their names."""
        for place, name in odd.references():
            self._add(found.under(("odd",)) for found in self._no_signal(place, name))
        self._add(found.under(("odd",)) for found in self._display_only(odd.references(), signals))
        self._add(found.under(("odd",)) for found in odd.findings(signals))
        taken = [bin_name(axis) for axis in Axis if bin_name(axis) in self.signal_names]
        self._add((Finding(("signals", name), "is the name of a signal that `odd` makes") for name in taken), key=True)
        made = {signal.name: signal for signal in odd.signals(signals)}
        self.signal_names |= dict.fromkeys(made)
        return dict(sorted({**signals, **made}.items()))

    @staticmethod
    def _odd_inputs(odd: Odd | None) -> set[str]:
        return {name for _, name in odd.references()} if odd else set()

    def _idle_sensors(self, signals: Mapping[str, SignalModel], sensors: Mapping[str, SensorModel]) -> tuple[str, ...]:
        used = {bare(signal.topic) for signal in signals.values() if signal.statistic}
        message = "no signal is a statistic of this topic"
        idle = [Finding(("sensors", topic), message) for topic in sensors if bare(topic) not in used]
        return tuple(str(self.document.problem(found, key=True)) for found in idle)

    def _raw(self, section: str) -> dict[str, Any]:
        raw = self.document.data.get(section, {})
        return raw if isinstance(raw, dict) else {}

    def _watches(self, *readers: Authority | HardCases | None) -> dict[str, str]:
        """How each signal of the readers is watched; every message of a reason's text counts, also a repeated one."""
        watches: dict[str, str] = {}
        for _, name, watch in (found for reader in readers if reader for found in reader.references()):
            watches[name] = "each" if "each" in (watch, watches.get(name)) else watch
        return watches

    def _authority(self, authority: Authority, signals: Mapping[str, Signal]) -> None:
        for place, name, _ in authority.references():
            self._add(found.under(("authority",)) for found in self._no_signal(place, name))
        self._add(found.under(("authority",)) for found in authority.findings(signals))

    def _chosen(self, mission: Mission, risk: str | None) -> str:
        known = {mission.risk, *mission.profiles}
        if risk is None or risk in known:
            return risk or mission.risk
        near = nearest(risk, known) if risk not in get_args(Risk) else ""
        hint = f" (did you mean `{near}`?)" if near else ""
        have = ", ".join(sorted(known))
        raise UsageError(f"{self.document.source}: has no risk profile {shown(risk)}{hint}; it has: {have}")

    def _warnings(
        self,
        signals: Mapping[str, SignalModel],
        checks: Mapping[str, CheckModel],
        profiles: Mapping[str, Mapping[str, CheckModel]],
        watches: Collection[str],
    ) -> tuple[str, ...]:
        everywhere = [*checks.values(), *(check for changed in profiles.values() for check in changed.values())]
        used = {name for check in everywhere for _, name in check.references()} | set(watches)
        used |= {name for signal in signals.values() for _, name in names_in(signal.expr)}
        used |= {name for signal in signals.values() if signal.residual for _, name in signal.residual.references()}
        message = "no check and no authority reads this signal"
        unused = [Finding(("signals", name), message) for name in signals if name not in used]
        problems = [self.document.problem(found, key=True) for found in unused]
        residuals = {name: signal.residual for name, signal in signals.items() if signal.residual is not None}
        problems += [self.document.problem(found) for found in unusable(residuals)]
        return tuple(str(problem) for problem in sorted(problems, key=lambda p: p.mark))
