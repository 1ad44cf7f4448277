"""One audit: every probe of every erased fact and of its controls, asked of one version, and judged."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace

from expunge.auditing.ability.comparison import compare_ability
from expunge.auditing.ability.scores import KnownScores
from expunge.auditing.attacks.attack import ATTACK_FIGURES, SPLITS, WHOLE, figure_of
from expunge.auditing.attacks.findings import AttackFinding
from expunge.auditing.attacks.weights import Weights
from expunge.auditing.controls import controls_for
from expunge.auditing.intervals import Share
from expunge.auditing.interview import Measured, Retained, ask
from expunge.auditing.measured_series import measured_series
from expunge.auditing.metrics.definitions import definition
from expunge.auditing.other_entities import OtherEntities
from expunge.auditing.policy import DEFAULT_POLICY, Policy
from expunge.auditing.probes import ProbedFact, ProbeKind, check_auditable, probed_facts
from expunge.auditing.questionnaire import Questionnaire
from expunge.auditing.report import AuditReport, Evidence, FactFinding, Figure, RetainFinding
from expunge.auditing.spread import spread
from expunge.auditing.text_model import TextModel
from expunge.auditing.verdicts import verdicts
from expunge.errors import InvalidRequest
from expunge.facts import Fact, ForgetRequest, QuestionAnswer

Progress = Callable[[str, int, int], None]  # stage, steps done, steps in all
_METRICS = {  # figure → metric
    **dict.fromkeys((kind.value for kind in ProbeKind), "full_leak"),
    "prefix": "prefix_leak",
    **{
        name: "prefix_leak" if name == figure_of(attack, SPLITS) else "full_leak"
        for name, attack in ATTACK_FIGURES.items()
    },
    "partial": "partial_leak",
    "prefix_partial": "prefix_partial_leak",
    "other_entity": "other_entity_leak",
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
    others: Sequence[Fact] = (),
    weights: Weights | None = None,
    scores: KnownScores | None = None,
    thorough: bool = False,
    progress: Progress | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> AuditReport:
    """Audit `version` against one erasure.

    Args:
        baseline: the version served before; without it neither retention nor general ability nor earlier
            knowledge is judged.
        neighbours: facts to keep that training never saw, judged together with `request.retain`.
        others: facts of other erasures, which no reply may hand out in place of these either.
        weights: of the version, for the policy's attacks on them.
        scores: of general ability, known from earlier audits of the same model.
        thorough: ask also what the policy only reports, and what it leaves until a version is live.
        progress: told after each stage.

    Raises:
        InvalidRequest: a fact that no probe can judge (`probes.check_auditable`); no `weights` for a policy
            that attacks them.
        VersionNotStaged: the model does not hold a version.
    """
    started = clock()
    told = progress or (lambda stage, done, total: None)
    check_auditable(request)
    kinds, attacks = policy.kinds(thorough=thorough), policy.weight_attacks(thorough=thorough)
    if attacks and weights is None:
        raise InvalidRequest.of("weights", f"is needed by policy {policy.name}: it attacks them")
    known = (*request.retain, *neighbours)
    retain = spread(known, policy.max_retain)
    erased = probed_facts(request.facts, request.subjects, policy, kinds, retain)
    named = replace(request, facts=tuple(map(_with_subject, erased)))  # so that controls are named, too
    invented = controls_for(named, policy.controls_per_fact, policy.seed)
    subjects = [fact.subject for fact in erased]  # do their names come up without their secrets, too?
    controls = probed_facts(invented, (), policy, kinds, retain, subjects)
    others_known = OtherEntities((*retain, *spread(others, policy.max_retain)))
    retain = retain if baseline else ()
    told("probes", 0, 3)

    asked = (
        Questionnaire.full(erased, policy),
        Questionnaire.of_controls(controls, len(erased), policy),
    )
    (now, never), kept = ask(model, version, asked, retain, policy)
    told("probes", 1, 3)
    before, finding = _against_baseline(model, baseline, erased, retain, kept, policy)
    tasks = policy.tasks(thorough=thorough)
    ability = compare_ability(model, baseline, version, tasks, policy, scores or KnownScores())
    told("baseline", 2, 3)

    attacked = weights.attacked(attacks, erased, controls, policy) if weights else []
    told("weights", 3, 3)

    others_named = Figure(
        "other_entity", others_known.share(erased, now.replies), others_known.share(controls, never.replies)
    )
    after = tuple(figure for finding in attacked for figure in finding.figures)
    figures = (*_figures(now, never, before, kinds), others_named, *after)
    return AuditReport(
        request_id=request.request_id,
        version=version,
        baseline=baseline,
        policy=policy.name,
        policy_version=policy.version,
        policy_digest=policy.digest,
        figures=figures,
        gates=verdicts(policy, figures, finding, ability, thorough=thorough),
        facts=_findings(erased, now, before, kinds, attacked),
        retain=finding,
        ability=ability,
        notes=_notes(request, erased, before, finding) + _unasked(policy, thorough),
        probes=len(now.replies) + len(never.replies) + len(retain) + sum(one.probes for one in attacked),
        seconds=clock() - started,
        evidence=_evidence(now, attacked),
        thorough=thorough,
        definitions={figure.name: definition(_METRICS[figure.name]).id for figure in figures},
        series=measured_series(erased, controls, now, never, before),
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


def _figures(
    now: Measured, never: Measured, before: Measured | None, kinds: Collection[ProbeKind]
) -> tuple[Figure, ...]:
    figures = [
        Figure(
            kind.value,
            now.share(kind),
            never.share(kind),
            before.share(kind) if before and kind is ProbeKind.DIRECT else None,
        )
        for kind in ProbeKind
        if kind in kinds
    ]
    whole = tuple(kind for kind in ProbeKind if kind in kinds and kind is not ProbeKind.PREFIX)
    figures.append(Figure("partial", now.share(*whole, partial=True), never.share(*whole, partial=True)))
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


def _findings(
    erased: Sequence[ProbedFact],
    now: Measured,
    before: Measured | None,
    kinds: Collection[ProbeKind],
    attacked: Sequence[AttackFinding],
) -> tuple[FactFinding, ...]:
    findings = []
    for fact, extraction in zip(erased, now.extraction, strict=True):
        own = fact.fact.id
        known = before.share(ProbeKind.DIRECT, fact_id=own).hits > 0 if before else None
        shares = {kind.value: now.share(kind, fact_id=own) for kind in ProbeKind if kind in kinds}
        for one in attacked:
            for kind in (WHOLE, SPLITS):
                shares[figure_of(one.attack, kind)] = one.erased.share(kind, fact_id=own)
        findings.append(FactFinding(own, known, shares, extraction.es, extraction.em))
    return tuple(findings)


def _notes(
    request: ForgetRequest,
    erased: Sequence[ProbedFact],
    before: Measured | None,
    retain: RetainFinding | None,
) -> tuple[str, ...]:
    notes = []
    if before is None:
        notes.append(
            "No baseline version was given: earlier knowledge, retention and general ability were not judged."
        )
    else:
        unknown = [reply.probe.fact_id for reply in before.replies if not reply.leak.full]
        if unknown:
            notes.append(
                f"The baseline version did not tell {len(unknown)} of {len(erased)} facts when asked "
                f"directly ({', '.join(unknown)}): for these a clean audit proves no forgetting."
            )
        if retain is None:
            notes.append("No retain data was given: retention was not judged.")
    unsplit = [fact.fact.id for fact in erased if not _asks(fact, ProbeKind.PREFIX)]
    if unsplit:
        notes.append(f"Too short to be split between words, so without prefix probes: {', '.join(unsplit)}.")
    unnamed = [fact.fact.id for fact in erased if not fact.subject]
    if unnamed:
        notes.append(f"They name no subject, so nothing was asked in reverse about: {', '.join(unnamed)}.")
    if len(request.facts) < 4:
        notes.append("Fewer than four facts: the intervals are wide and a clean audit says little.")
    return tuple(notes)


def _asks(fact: ProbedFact, kind: ProbeKind) -> bool:
    return any(probe.kind is kind for probe in fact.probes)


def _unasked(policy: Policy, thorough: bool) -> tuple[str, ...]:
    if thorough:
        return ()
    kinds = policy.kinds(thorough=True) - policy.kinds()
    attacks, asked = policy.weight_attacks(), policy.tasks().asked
    left = [kind.value for kind in ProbeKind if kind in kinds]
    left += [attack for attack in policy.weight_attacks(thorough=True) if attack not in attacks]
    left += [task.value for task in policy.tasks(thorough=True).asked if task not in asked]
    return (f"Not asked before a version goes live: {', '.join(left)}.",) if left else ()


def _with_subject(fact: ProbedFact) -> Fact:
    """The fact, naming the subject that it is about, where it does not yet."""
    name = fact.fact.subject or (fact.subject.name if fact.subject else "")
    return replace(fact.fact, subject=name)


def _evidence(now: Measured, attacked: Sequence[AttackFinding]) -> tuple[Evidence, ...]:
    """Every reply of the erased facts that gave something away, and what it was an answer to."""
    replies = [(reply.probe.kind.value, reply) for reply in now.replies]
    for one in attacked:
        replies += [(figure_of(one.attack, reply.probe.kind), reply) for reply in one.erased.replies]
    return tuple(
        Evidence(
            reply.probe.fact_id,
            figure,
            reply.probe.question,
            reply.probe.prefix,
            reply.text,
            reply.leak.full,
            reply.leak.words,
        )
        for figure, reply in replies
        if reply.leak.partial or reply.leak.full
    )
