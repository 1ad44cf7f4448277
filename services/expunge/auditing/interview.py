"""What one version answers: replies to probes, teacher-forced answers, retain answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice

from expunge.auditing.intervals import Share
from expunge.auditing.leaks import FoldedText, Secret, compact
from expunge.auditing.metrics.scored import AnswerScores, score_answers
from expunge.auditing.policy import Policy
from expunge.auditing.probes import Probe, ProbedFact, ProbeKind, Reply
from expunge.auditing.questionnaire import Questionnaire
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


def ask(
    model: TextModel,
    version: str,
    questionnaires: Sequence[Questionnaire],
    retain: Sequence[QuestionAnswer],
    policy: Policy,
) -> tuple[list[Measured], Retained]:
    """Ask one version everything, generation and teacher forcing batched; a result for each part."""
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
    """Replies to all probes, then to the retain questions; one batch of greedy ones, one of sampled ones."""
    prompts, limits = [], []
    greedy: list[int] = []
    sampled: list[int] = []
    for index, (fact, probe) in enumerate(asked):
        (sampled if probe.kind is ProbeKind.SAMPLED else greedy).append(index)
        prompts.append(probe.ids(model))
        margin = policy.prefix_margin if probe.kind is ProbeKind.PREFIX else policy.reply_margin
        limits.append(max(1, probe.reply_tokens(fact.expected(probe), _counter(model))) + margin)
    for item in retain:
        greedy.append(len(prompts))
        prompts.append(model.chat_ids(item.question))
        limits.append(len(model.encode(item.answer, special=False)) + policy.reply_margin)
    answers: dict[int, list[int]] = {}
    likeliest = model.greedy([prompts[at] for at in greedy], version, [limits[at] for at in greedy])
    answers.update(zip(greedy, likeliest, strict=True))
    if sampled:
        drawn = model.sample(
            [prompts[at] for at in sampled],
            version,
            [limits[at] for at in sampled],
            temperature=1.0,
            seed=policy.seed,
        )
        answers.update(zip(sampled, drawn, strict=True))
    return [model.decode(answers[index]) for index in range(len(prompts))]


def _counter(model: TextModel) -> Callable[[str], int]:
    return lambda text: len(model.encode(text, special=False))


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
