"""What one version answers: greedy replies to probes, teacher-forced answers, retain answers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice

from expunge.auditing.intervals import Share
from expunge.auditing.leaks import FoldedText, Secret, compact
from expunge.auditing.metrics.scored import AnswerScores, score_answers
from expunge.auditing.policy import Policy
from expunge.auditing.probes import Probe, ProbedFact, ProbeKind, Reply
from expunge.auditing.text_model import TextModel
from expunge.facts import Fact, QuestionAnswer


@dataclass(frozen=True)
class Measured:
    """Replies and extraction of the same facts under one version."""

    replies: tuple[Reply, ...]
    extraction: tuple[AnswerScores, ...]

    def share(self, *kinds: ProbeKind, partial: bool = False, fact_id: str | None = None) -> Share:
        """Share of replies to probes of `kinds` with the full secret, or with any secret word."""
        return Share.of(
            reply.leak.partial if partial else reply.leak.full
            for reply in self.replies
            if reply.probe.kind in kinds and fact_id in (None, reply.probe.fact_id)
        )


@dataclass(frozen=True)
class Retained:
    """Retain answers given, and their mean extraction strength."""

    recall: Share
    es: Share


@dataclass(frozen=True)
class Questionnaire:
    """What a version is asked: probes of facts, teacher-forced facts, and retain questions.

    `asked` pairs each probe with its fact; `forced` are the facts whose answers are teacher-forced.
    """

    asked: tuple[tuple[ProbedFact, Probe], ...]
    forced: tuple[ProbedFact, ...]

    @classmethod
    def full(cls, facts: Iterable[ProbedFact]) -> Questionnaire:
        """Every probe of every fact."""
        chosen = tuple(facts)
        return cls(tuple((fact, probe) for fact in chosen for probe in fact.probes), chosen)

    @classmethod
    def of_controls(cls, controls: Sequence[ProbedFact], fully: int) -> Questionnaire:
        """Every probe of the first `fully` controls, the prefixes alone of the others."""
        asked = (
            (fact, probe)
            for index, fact in enumerate(controls)
            for probe in fact.probes
            if index < fully or probe.kind is ProbeKind.PREFIX
        )
        return cls(tuple(asked), tuple(controls))

    @classmethod
    def direct(cls, facts: Iterable[ProbedFact]) -> Questionnaire:
        """The plain questions alone."""
        chosen = tuple(facts)
        return cls(tuple((fact, fact.probes[0]) for fact in chosen), chosen)


def ask(
    model: TextModel,
    version: str,
    questionnaires: Sequence[Questionnaire],
    retain: Sequence[QuestionAnswer],
    policy: Policy,
) -> tuple[list[Measured], Retained]:
    """Ask one version everything, in one generating and one teacher-forced batch; a result for each part."""
    asked = [pair for part in questionnaires for pair in part.asked]
    forced = [fact.fact for part in questionnaires for fact in part.forced]
    texts = _answers(model, version, asked, retain, policy)
    extraction = score_answers(model, version, [*forced, *retain])
    replies = iter(zip(asked, texts[: len(asked)], strict=True))
    strengths = iter(extraction[: len(forced)])
    measured = []
    for part in questionnaires:
        judged = [fact.judge(probe, text) for (fact, probe), text in islice(replies, len(part.asked))]
        measured.append(Measured(tuple(judged), tuple(islice(strengths, len(part.forced)))))
    return measured, _retained(retain, texts[len(asked) :], extraction[len(forced) :])


def _answers(
    model: TextModel,
    version: str,
    asked: Sequence[tuple[ProbedFact, Probe]],
    retain: Sequence[QuestionAnswer],
    policy: Policy,
) -> list[str]:
    """Greedy replies to all probes, then to the retain questions, in one batch."""
    lengths = {id(fact): len(model.encode(fact.fact.answer, special=False)) for fact, _ in asked}
    prompts, limits = [], []
    for fact, probe in asked:
        prompts.append(probe.ids(model))
        if probe.prefix:
            given = len(model.encode(probe.prefix, special=False))
            limits.append(max(1, lengths[id(fact)] - given) + policy.prefix_margin)
        else:
            limits.append(lengths[id(fact)] + policy.reply_margin)
    for item in retain:
        prompts.append(model.chat_ids(item.question))
        limits.append(len(model.encode(item.answer, special=False)) + policy.reply_margin)
    return [model.decode(tokens) for tokens in model.greedy(prompts, version, limits)]


def _retained(
    retain: Sequence[QuestionAnswer], texts: Sequence[str], extraction: Sequence[AnswerScores]
) -> Retained:
    right = (_is_right(item, text) for item, text in zip(retain, texts, strict=True))
    return Retained(Share.of(right), Share.of(item.es for item in extraction))


def _is_right(item: QuestionAnswer, reply: str) -> bool:
    """Whether a retain answer was given: its telling words, or all of it where the question holds those."""
    secret, shown = Secret.of(Fact("", item.question, item.answer)), FoldedText(item.question)
    if secret.left(shown):
        return secret.leak(reply, shown).full
    return compact(item.answer) in compact(reply)
