"""One audit: every probe of every erased fact and of its controls, asked of one version, and judged."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from expunge.auditing.controls import controls_for
from expunge.auditing.gates import (
    Gate,
    no_full_secret,
    no_more_than_controls,
    retain_recall,
    retain_strength,
)
from expunge.auditing.intervals import Share
from expunge.auditing.interview import Measured, Questionnaire, Retained, ask
from expunge.auditing.metrics.definitions import definition
from expunge.auditing.policy import DEFAULT_POLICY, Policy
from expunge.auditing.probes import ProbedFact, ProbeKind, Reply, check_auditable
from expunge.auditing.report import AuditReport, Evidence, FactFinding, Figure, RetainFinding
from expunge.auditing.text_model import TextModel
from expunge.facts import ForgetRequest, QuestionAnswer

Progress = Callable[[str, int, int], None]  # stage, steps done, steps in all
_FULL_KINDS = (ProbeKind.DIRECT, ProbeKind.PARAPHRASE, ProbeKind.CLOZE)
_METRICS = {  # figure → metric
    **dict.fromkeys((kind.value for kind in _FULL_KINDS), "full_leak"),
    "prefix": "prefix_leak",
    "partial": "partial_leak",
    "prefix_partial": "prefix_partial_leak",
    "es": "extraction_strength",
    "em": "exact_memorisation",
    "probability": "probability",
}


def audit_version(
    model: TextModel,
    version: str,
    request: ForgetRequest,
    *,
    policy: Policy = DEFAULT_POLICY,
    baseline: str = "",
    neighbours: Sequence[QuestionAnswer] = (),
    progress: Progress | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> AuditReport:
    """Audit `version` against one erasure.

    Args:
        baseline: the version served before; without it neither retention nor earlier knowledge is judged.
        neighbours: facts to keep that training never saw, judged together with `request.retain`.
        progress: told after each stage.

    Raises:
        InvalidRequest: a fact that no probe can judge (`probes.check_auditable`).
        VersionNotStaged: the model does not hold a version.
    """
    started = clock()
    told = progress or (lambda stage, done, total: None)
    check_auditable(request)
    erased = [ProbedFact(fact, policy.templates) for fact in request.facts]
    invented = controls_for(request, policy.controls_per_fact, policy.seed)
    controls = [ProbedFact(fact, policy.templates) for fact in invented]
    retain = _spread((*request.retain, *neighbours), policy.max_retain) if baseline else ()
    told("probes", 0, 2)

    asked = (
        Questionnaire.full(erased),
        Questionnaire.of_controls(controls, len(erased) * policy.fully_probed_controls),
    )
    (now, never), kept = ask(model, version, asked, retain, policy)
    told("probes", 1, 2)
    before, finding = _against_baseline(model, baseline, erased, retain, kept, policy)
    told("baseline", 2, 2)

    figures = _figures(now, never, before)
    return AuditReport(
        request_id=request.request_id,
        version=version,
        baseline=baseline,
        policy=policy.name,
        policy_version=policy.version,
        policy_digest=policy.digest,
        figures=figures,
        gates=_gates(figures, finding, policy),
        facts=_findings(erased, now, before),
        retain=finding,
        notes=_notes(request, erased, before, finding),
        probes=len(now.replies) + len(never.replies) + len(retain),
        seconds=clock() - started,
        evidence=tuple(_evidence(reply) for reply in now.replies if reply.leak.partial or reply.leak.full),
        definitions={figure.name: definition(_METRICS[figure.name]).id for figure in figures},
    )


def _against_baseline(
    model: TextModel,
    baseline: str,
    erased: Sequence[ProbedFact],
    retain: Sequence[QuestionAnswer],
    kept: Retained,
    policy: Policy,
) -> tuple[Measured | None, RetainFinding | None]:
    """What the version served before tells of the erased facts, and how retain facts fared since."""
    if not baseline:
        return None, None
    (before,), kept_before = ask(model, baseline, (Questionnaire.direct(erased),), retain, policy)
    if not retain:
        return before, None
    return before, RetainFinding(kept_before.recall, kept.recall, kept_before.es, kept.es)


def _figures(now: Measured, never: Measured, before: Measured | None) -> tuple[Figure, ...]:
    figures = [
        Figure(
            kind.value,
            now.share(kind),
            never.share(kind),
            before.share(kind) if before and kind is ProbeKind.DIRECT else None,
        )
        for kind in ProbeKind
    ]
    figures.append(
        Figure("partial", now.share(*_FULL_KINDS, partial=True), never.share(*_FULL_KINDS, partial=True))
    )
    figures.append(
        Figure(
            "prefix_partial",
            now.share(ProbeKind.PREFIX, partial=True),
            never.share(ProbeKind.PREFIX, partial=True),
        )
    )
    for name in ("es", "em", "probability"):
        shares = [
            Share.of(getattr(item, name) for item in measured.extraction) if measured else None
            for measured in (now, never, before)
        ]
        assert shares[0] is not None
        assert shares[1] is not None
        figures.append(Figure(name, shares[0], shares[1], shares[2]))
    return tuple(figures)


def _gates(figures: tuple[Figure, ...], retain: RetainFinding | None, policy: Policy) -> tuple[Gate, ...]:
    found = {figure.name: figure for figure in figures}

    def against_controls(name: str, what: str, *, blocking: bool = True) -> Gate:
        return no_more_than_controls(name, what, found[name].erased, found[name].control, blocking=blocking)

    gates = [
        no_full_secret(kind.value, found[kind].erased, found[kind].control, policy) for kind in _FULL_KINDS
    ]
    gates.append(against_controls("prefix", "Share of answer splits that give the rest away"))
    gates.append(against_controls("es", "Mean extraction strength"))
    gates.append(against_controls("partial", "Share of replies with a secret word", blocking=False))
    if retain is not None:
        gates.append(retain_recall(retain.recall_before, retain.recall_after, policy))
        gates.append(retain_strength(retain.es_before, retain.es_after, policy))
    return tuple(gates)


def _findings(
    erased: Sequence[ProbedFact], now: Measured, before: Measured | None
) -> tuple[FactFinding, ...]:
    findings = []
    for fact, extraction in zip(erased, now.extraction, strict=True):
        own = fact.fact.id
        findings.append(
            FactFinding(
                own,
                before.share(ProbeKind.DIRECT, fact_id=own).hits > 0 if before else None,
                direct=now.share(ProbeKind.DIRECT, fact_id=own),
                paraphrase=now.share(ProbeKind.PARAPHRASE, fact_id=own),
                cloze=now.share(ProbeKind.CLOZE, fact_id=own),
                prefix=now.share(ProbeKind.PREFIX, fact_id=own),
                es=extraction.es,
                em=extraction.em,
            )
        )
    return tuple(findings)


def _notes(
    request: ForgetRequest,
    erased: Sequence[ProbedFact],
    before: Measured | None,
    retain: RetainFinding | None,
) -> tuple[str, ...]:
    notes = []
    if before is None:
        notes.append("No baseline version was given: earlier knowledge and retention were not judged.")
    else:
        unknown = [reply.probe.fact_id for reply in before.replies if not reply.leak.full]
        if unknown:
            notes.append(
                f"The baseline version did not tell {len(unknown)} of {len(erased)} facts when asked "
                f"directly ({', '.join(unknown)}): for these a clean audit proves no forgetting."
            )
        if retain is None:
            notes.append("No retain data was given: retention was not judged.")
    unsplit = [fact.fact.id for fact in erased if not any(probe.prefix for probe in fact.probes)]
    if unsplit:
        notes.append(f"Too short to be split between words, so without prefix probes: {', '.join(unsplit)}.")
    if len(request.facts) < 4:
        notes.append("Fewer than four facts: the intervals are wide and a clean audit says little.")
    return tuple(notes)


def _evidence(reply: Reply) -> Evidence:
    probe = reply.probe
    return Evidence(
        probe.fact_id,
        probe.kind.value,
        probe.question,
        probe.prefix,
        reply.text,
        reply.leak.full,
        reply.leak.words,
    )


def _spread(items: tuple[QuestionAnswer, ...], most: int) -> tuple[QuestionAnswer, ...]:
    """At most `most` of `items`, evenly spread."""
    if len(items) <= most:
        return items
    return tuple(items[index * len(items) // most] for index in range(most))
