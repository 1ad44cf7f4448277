"""What the page says besides its figures, as plain text: verdict, gates, facts, conditions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from expunge.erasures.report_page.figure_data import FigureData, Report
from expunge.erasures.report_page.plots import duration
from expunge.facts import Fact

SHOWN = "Suppression in the weights as served: what this version says unfiltered, in the precision below."
_STATES = {"verified": True, "closed": True, "failed": False}
_NAMES = {"es": "extraction strength (ES)", "em": "exact memorisation (EM)"}
_VERIFIED = (  # in the order in which they are told
    "facts",
    "facts_asked",
    "probes_asked",
    "probes_answered",
    "probes_refused",
    "probes_unanswered",
    "probes_other_version",
    "leaks",
    "leaking_facts",
)
_SHORT = 12  # characters of a version id in running text


@dataclass(frozen=True)
class Verdict:
    """The one sentence first, the word before it, and whether that is good (None: not decided)."""

    word: str
    sentence: str
    good: bool | None


@dataclass(frozen=True)
class GateRow:
    """One gate: `mark` is passed, failed, or noted for a gate that only reports and was not met."""

    name: str
    mark: str
    value: str
    threshold: str
    control: str
    sentence: str
    blocking: bool


@dataclass(frozen=True)
class FactRow:
    """One erased fact; question and answer are empty unless they were given."""

    fact_id: str
    known_before: str
    leaks: str
    es: str
    em: str
    question: str = ""
    answer: str = ""


def verdict(data: FigureData) -> Verdict:
    """What was asked, and what came of it."""
    report, audit = data.report, data.audit
    erasure = report["erasure"]
    facts = f"{erasure['facts']:.0f} {erasure['kind'].replace('_', ' ')} facts"
    asked = f"Erasure {erasure['id']} asked the service to forget {facts}."
    good = _STATES.get(erasure["state"])
    if good is None:
        return Verdict(erasure["state"].capitalize(), f"{asked} It has not come to its end.", None)
    if not good:
        detail = erasure["detail"] or "its rounds ran out"
        return Verdict("Failed", f"{asked} It did not: {detail}.", False)
    blocking = [gate for gate in (audit or {}).get("gates", ()) if gate["blocking"]]
    version = report["versions"]["after"][:_SHORT]
    gates = (
        f"met all {len(blocking)} blocking gates of policy “{audit['policy']}”" if audit else "was audited"
    )
    return Verdict("Passed", f"{asked} Version {version} {gates} and went live.", True)


def highlights(data: FigureData) -> tuple[tuple[str, str, str], ...]:
    """The few figures to know: (figure, what it is, beside what)."""
    audit = data.audit or {}
    found = {figure["name"]: figure for figure in audit.get("figures", ())}
    tiles = []
    for name, what in (
        ("direct", "plain questions answered with the secret"),
        ("prefix", "beginnings completed"),
    ):
        if name in found:
            own, never = found[name]["erased"], found[name]["control"]
            tiles.append((_of(own), what, f"controls {_of(never)}"))
    retain = audit.get("retain")
    if retain:
        after, before = retain["recall_after"], retain["recall_before"]
        tiles.append((_of(after), "answers to be kept still right", f"{before['hits']:.0f} before"))
    timings = data.timings
    if timings:
        guard = data.report["seconds_suppressed"]
        beside = f"guarded after {duration(guard)}" if guard is not None else "from acceptance"
        tiles.append(
            (duration(timings.starts[-1] + timings.seconds[-1]), "from acceptance to its end", beside)
        )
    return tuple(tiles)


def gate_rows(audit: Report | None) -> tuple[GateRow, ...]:
    """The gates of an audit, blocking ones that were not met first."""
    gates: Sequence[Report] = (audit or {}).get("gates", ())
    rows = [
        GateRow(
            _NAMES.get(gate["name"], gate["name"].replace("_", " ")),
            "passed" if gate["passed"] else "failed" if gate["blocking"] else "noted",
            f"{gate['value']:.3g}",
            f"{gate['threshold']:.3g}",
            _control(gate.get("control")),
            gate["sentence"],
            bool(gate["blocking"]),
        )
        for gate in gates
    ]
    return tuple(sorted(rows, key=lambda row: ("failed", "noted", "passed").index(row.mark)))


def fact_rows(audit: Report | None, revealed: Mapping[str, Fact]) -> tuple[FactRow, ...]:
    """The erased facts by id, with their text where `revealed` has it."""
    rows = []
    for finding in (audit or {}).get("facts", ()):
        kinds = {
            kind: share for kind, share in finding.items() if isinstance(share, Mapping) and share["hits"] > 0
        }
        known = {True: "told", False: "not told", None: "not asked"}[finding["known_before"]]
        leaks = ", ".join(f"{kind.replace('_', ' ')} {_of(share)}" for kind, share in kinds.items())
        fact = revealed.get(finding["fact_id"])
        rows.append(
            FactRow(
                finding["fact_id"],
                known,
                leaks or "none",
                f"{finding['es']:.2f}",
                f"{finding['em']:.2f}",
                *((fact.question, fact.answer) if fact else ()),
            )
        )
    return tuple(rows)


def conditions(data: FigureData) -> tuple[tuple[str, str], ...]:
    """What was measured, on what, and under which policy: names and values."""
    report, audit = data.report, data.audit or {}
    measured: Mapping[str, Any] = audit.get("conditions") or {}
    unknown = "not recorded by the release that audited it"
    shown = {
        "version audited": audit.get("version", ""),
        "version before": audit.get("baseline", ""),
        "base model (manifest digest)": measured.get("model", unknown),
        "precision": measured.get("precision", unknown),
        "form": measured.get("form", unknown),
        "policy": f"{audit['policy']}, version {audit['policy_version']:.0f}" if audit else "",
        "policy digest": audit.get("policy_digest", ""),
        "audit": audit.get("id", ""),
        "audited at": audit.get("at", ""),
        "probes asked": f"{audit['probes']:.0f} in {duration(audit['seconds'])}" if audit else "",
        "rounds of training": f"{report['rounds']:.0f}",
        "legal ground": report["erasure"]["ground"],
        "accepted": report["erasure"]["accepted_at"],
        "due": report["erasure"]["due_at"],
        "aliases": ", ".join(report["erasure"]["aliases"]),
    }
    return tuple((name, value) for name, value in shown.items() if value)


def verification(report: Report) -> tuple[tuple[str, str], ...]:
    """What the live gateway was asked, and what it told."""
    found: Report = report["verification"] or {}
    shown = [(name, found[name]) for name in _VERIFIED if name in found]
    return tuple((name.replace("_", " "), _plain(value)) for name, value in shown)


def definitions(audit: Report | None) -> tuple[tuple[str, str], ...]:
    """Id of each definition, and the figures that follow it."""
    named: Mapping[str, str] = (audit or {}).get("definitions") or {}
    by_id: dict[str, list[str]] = {}
    for figure in (audit or {}).get("figures", ()):
        if figure["name"] in named:
            by_id.setdefault(named[figure["name"]], []).append(figure["name"].replace("_", " "))
    return tuple((id_, ", ".join(names)) for id_, names in by_id.items())


def _plain(value: object) -> str:
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(map(str, value)) or "none"
    return f"{value:g}" if isinstance(value, int | float) else str(value)


def _of(share: Report) -> str:
    return f"{share['hits']:g} of {share['n']:g}"


def _control(share: Report | None) -> str:
    if share is None:
        return "–"
    return f"{share['rate']:.3f} ({share['lower']:.3f}–{share['upper']:.3f})"
