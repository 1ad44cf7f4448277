"""The report of one erasure: what was done, what was measured, what is claimed and what is not. Unsigned.

It holds ids, times, counts and scores, no text of facts or replies. It is built from the events, the
audits and the versions, stored encrypted with the erasure's own key, and never changed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol

from expunge.erasures.history import History
from expunge.errors import FailedPrecondition
from expunge.registry.records import AuditRecord, ErasureRecord, ErasureState, JobKind, JobState
from expunge.unlearning.jobs import MeasureResult, TrainedResult

if TYPE_CHECKING:
    from expunge.erasures.history import Registry

FORMAT = 1
_PREFIX = "report-"

CLAIMED = (
    "From the suppression time on, gateways refused prompts that the guard recognised as about the subjects.",
    "Every version that an alias pointed at once the erasure was live had passed an audit against it.",
    "The audit's gates, against controls on invented entities, were met by the version named here.",
    "The live gateway answered the verification probes from that version and told no full secret.",
)
NOT_CLAIMED = (
    "That the weights hold no trace of the facts: they are suppressed in a LoRA adapter over unchanged base "
    "weights, and an attack with access to the weights, or further training, may bring traces back.",
    "That no prompt whatever brings a fact out: finitely many probes were asked; see the intervals.",
    "That copies of the model, of its training data or of earlier answers held elsewhere were erased.",
    "That the interim guard recognised every prompt: it matches words and misses translations or encodings.",
    "Who wrote this report: it is not signed.",
)


@dataclass(frozen=True)
class StoredReport:
    """A report for programs and, with the same contents, for people."""

    report: dict[str, Any]
    markdown: str


class ReportSource(Protocol):
    """The part of the registry that stored reports come from."""

    async def get_erasure(self, erasure_id: str, with_request: bool = False) -> ErasureRecord: ...

    async def list_audits(self, version: str = "", erasure_id: str = "") -> Sequence[AuditRecord]: ...

    async def get_audit(self, audit_id: str) -> AuditRecord: ...


async def store_report(registry: Registry, erasure_id: str) -> StoredReport:
    """Store the report of an erasure as it stands. Safe to repeat: a stored one is left as it is."""
    record = await registry.get_erasure(erasure_id)
    report = await build_report(registry, erasure_id)
    content = {"report": report, "markdown": to_markdown(report)}
    await registry.put_audit(_report_id(record), record.version, erasure_id, content)
    return await read_report(registry, erasure_id)


async def has_report(registry: ReportSource, record: ErasureRecord) -> bool:
    """Whether the report of an erasure as it stands is stored."""
    stored = await registry.list_audits(erasure_id=record.id)
    return any(listed.id == _report_id(record) for listed in stored)


async def read_report(registry: ReportSource, erasure_id: str) -> StoredReport:
    """The latest stored report of an erasure.

    Raises:
        NotFound: no such erasure.
        FailedPrecondition: none is written yet.
    """
    record = await registry.get_erasure(erasure_id)
    stored = [
        audit
        for audit in await registry.list_audits(erasure_id=erasure_id)
        if audit.id.startswith(f"{_PREFIX}{erasure_id}-")
    ]
    if not stored:
        raise FailedPrecondition(
            f"erasure {erasure_id} is {record.state.value}; its report comes once it is verified or failed",
            reason="REPORT_NOT_WRITTEN",
        )
    content = (await registry.get_audit(stored[-1].id)).report or {}
    return StoredReport(content["report"], content["markdown"])


async def build_report(registry: Registry, erasure_id: str) -> dict[str, Any]:
    """The report of an erasure in whatever state it is."""
    record = await registry.get_erasure(erasure_id)
    history = await History.read(registry, erasure_id)
    guard = history.entered(ErasureState.SUPPRESSED)
    failed = record.state is ErasureState.FAILED
    verification = history.latest("verification")
    verified = record.state in (ErasureState.VERIFIED, ErasureState.CLOSED)
    return {
        "format": FORMAT,
        "signed": False,
        "erasure": _erasure(record),
        "timeline": [_entry(event.at, event.data, record) for event in history.transitions],
        "seconds_suppressed": guard.data.get("seconds_suppressed") if guard else None,
        "flip_ms": history.latest("flip_ms"),
        "versions": {
            "aliases_before": dict(history.plan),
            "after": record.version,
            "successors": history.latest("versions") or {},
            "withdrawn": sorted({name for found in history.every("withdrawn") for name in found.values()}),
        },
        "rounds": record.round,
        "rebases": history.rebases,
        "memo": {
            "before": history.latest("memo_before"),
            "variation": history.latest("memo_variation"),
            "facts": await _memo(registry, erasure_id),
        },
        "training": {
            **{key: history.latest(key) for key in ("steps", "training_seconds", "losses")},
            "runs": await _runs(registry, erasure_id),
        },
        "audits": await _audits(registry, erasure_id),
        "verification": verification,
        "claimed": list(CLAIMED) if verified else [],
        "not_claimed": list(NOT_CLAIMED) + (["That the facts were forgotten: it failed."] if failed else []),
    }


def to_markdown(report: Mapping[str, Any]) -> str:
    """The report for people."""
    erasure = report["erasure"]
    lines = [f"# Erasure {erasure['id']}", "", "This report is not signed.", ""]
    lines += [f"- {key.replace('_', ' ')}: {_shown(value)}" for key, value in erasure.items() if key != "id"]
    lines += [
        "",
        "## Timeline",
        "",
        "| state | time | seconds after acceptance | detail |",
        "| --- | --- | --- | --- |",
    ]
    lines += [
        f"| {entry['state']} | {entry['at']} | {entry['seconds']:.3f} | {entry['detail']} |"
        for entry in report["timeline"]
    ]
    lines += ["", "## Versions", ""]
    lines += [f"- {alias} before: `{name}`" for alias, name in report["versions"]["aliases_before"].items()]
    lines += [f"- after: `{report['versions']['after']}`"]
    lines += [f"- withdrawn after a leak: `{name}`" for name in report["versions"]["withdrawn"]]
    lines += ["", "## Figures", ""]
    lines += [f"- {key.replace('_', ' ')}: {_shown(report[key])}" for key in _FIGURES]
    lines += [f"- memory of the facts before (MEMO): {_shown(report['memo']['before'])}"]
    for audit in report["audits"]:
        lines += _audit_lines(audit)
    lines += ["", "## Verification through the live gateway", ""]
    lines += [f"- {key}: {_shown(value)}" for key, value in (report["verification"] or {}).items()]
    lines += ["", "## What is claimed", "", *(f"- {claim}" for claim in report["claimed"] or ["Nothing."])]
    lines += ["", "## What is not claimed", "", *(f"- {claim}" for claim in report["not_claimed"])]
    return "\n".join(lines) + "\n"


_COLUMNS = ("erased", "control", "baseline")
_FIGURES = ("seconds_suppressed", "flip_ms", "rounds", "rebases")


def _report_id(record: ErasureRecord) -> str:
    return f"{_PREFIX}{record.id}-{record.state.value}-r{record.round}"


def _erasure(record: ErasureRecord) -> dict[str, Any]:
    return {
        "id": record.id,
        "request_id": record.request_id,
        "kind": record.kind.value,
        "state": record.state.value,
        "facts": record.fact_count,
        "aliases": list(record.aliases),
        "ground": record.ground,
        "accepted_at": _time(record.created_at),
        "due_at": _time(record.due_at),
        "detail": record.detail,
    }


def _entry(at: float, data: Mapping[str, Any], record: ErasureRecord) -> dict[str, Any]:
    seconds = round(max(0.0, at - record.created_at), 3)
    return {"state": data["state"], "at": _time(at), "seconds": seconds, "detail": data.get("detail", "")}


async def _memo(registry: Registry, erasure_id: str) -> dict[str, float]:
    """Fact id → MEMO of its true answer before, as first measured."""
    memo: dict[str, float] = {}
    for result in await _results(registry, erasure_id, JobKind.MEASURE):
        found = {fact: round(one["true"], 4) for fact, one in MeasureResult.from_dict(result).memo.items()}
        memo = found | memo
    return memo


async def _runs(registry: Registry, erasure_id: str) -> list[dict[str, Any]]:
    """Every training, oldest first: the version it made, how long it took, and the losses of its steps."""
    trained = await _results(registry, erasure_id, JobKind.UNLEARN)
    keys = ("version", "seconds", "converged", "curves")
    return [{key: getattr(TrainedResult.from_dict(result), key) for key in keys} for result in trained]


async def _results(registry: Registry, erasure_id: str, kind: JobKind) -> list[dict[str, Any]]:
    """The results of the erasure's finished jobs of one kind, oldest first."""
    jobs = [
        await registry.get_job(job.id, with_payload=True)
        for job in await registry.list_jobs((JobState.SUCCEEDED,), (kind,))
        if job.erasure_id == erasure_id
    ]
    return [job.result or {} for job in jobs]


async def _audits(registry: Registry, erasure_id: str) -> list[dict[str, Any]]:
    """Every audit against the erasure, without its evidence."""
    found = []
    for listed in await registry.list_audits(erasure_id=erasure_id):
        if listed.id.startswith(_PREFIX):
            continue
        report = (await registry.get_audit(listed.id)).report or {}
        kept = {key: value for key, value in report.items() if key not in ("evidence", "request_id")}
        found.append({"id": listed.id, "at": _time(listed.created_at), **kept})
    return found


def _audit_lines(audit: Mapping[str, Any]) -> list[str]:
    verdict = "passed" if audit["passed"] else "failed: " + ", ".join(audit["failed_gates"])
    lines = [
        "",
        f"## Audit {audit['id']}",
        "",
        f"Version `{audit['version']}`, policy {audit['policy']}: {verdict}.",
        "",
    ]
    lines += ["| figure | erased facts | controls that never knew | before |", "| --- | --- | --- | --- |"]
    lines += [
        "| " + " | ".join((figure["name"], *(_share(figure[key]) for key in _COLUMNS))) + " |"
        for figure in audit["figures"]
    ]
    return [*lines, "", *(f"- {note}" for note in audit["notes"])]


def _share(share: Mapping[str, Any] | None) -> str:
    if share is None:
        return "–"
    return f"{share['hits']:g} of {share['n']} ({share['lower']:.3f}–{share['upper']:.3f})"


def _shown(value: object) -> str:
    if value is None or value == "":
        return "–"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(map(str, value)) or "–"
    return str(value)


def _time(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
