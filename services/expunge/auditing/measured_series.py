"""From what versions answered to the series of a report: no further pass through the model."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from expunge.auditing.intervals import Share
from expunge.auditing.interview import Measured
from expunge.auditing.metrics.membership import loss_score, min_k_score
from expunge.auditing.metrics.scored import AnswerScores
from expunge.auditing.probes import ProbedFact, ProbeKind, Reply
from expunge.auditing.series import PARTS, AnswerSeries, Series

MOST_ANSWERS = 400  # of each group that are kept, evenly spread
_DIGITS = 4


def measured_series(
    erased: Sequence[ProbedFact],
    controls: Sequence[ProbedFact],
    now: Measured,
    never: Measured,
    before: Measured | None,
) -> Series:
    """The series of an audit: `now` and `before` are the erased facts', `never` the controls'."""
    return Series(
        prefix_shares(erased, now.replies),
        prefix_shares(controls, never.replies),
        answer_series(now.extraction),
        answer_series(never.extraction),
        answer_series(before.extraction) if before else None,
    )


def prefix_shares(facts: Iterable[ProbedFact], replies: Iterable[Reply]) -> tuple[Share, ...]:
    """Full leaks of prefix probes by the part of the answer that was given, `PARTS` shares."""
    lengths = {fact.fact.id: len(fact.fact.answer) for fact in facts}
    hits, asked = [0] * PARTS, [0] * PARTS
    for reply in replies:
        if reply.probe.kind is ProbeKind.PREFIX:
            given = len(reply.probe.prefix) / lengths[reply.probe.fact_id]
            part = min(PARTS, max(1, math.ceil(given * PARTS))) - 1
            hits[part] += reply.leak.full
            asked[part] += 1
    return tuple(map(Share, hits, asked))


def answer_series(answers: Sequence[AnswerScores]) -> AnswerSeries:
    """Of scored answers, at most `MOST_ANSWERS` of them."""
    kept = answers[:: max(1, math.ceil(len(answers) / MOST_ANSWERS))]
    return AnswerSeries(
        _rounded(answer.es for answer in kept),
        _rounded(loss_score(answer.logprobs) for answer in kept),
        _rounded(min_k_score(answer.logprobs) for answer in kept),
    )


def _rounded(values: Iterable[float]) -> tuple[float, ...]:
    return tuple(round(value, _DIGITS) for value in values)
