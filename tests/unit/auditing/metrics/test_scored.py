"""One pass over a set: every figure follows from it, whatever the texts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from expunge.auditing.metrics.forced_figures import forced_figures
from expunge.auditing.metrics.membership import loss_score, min_k_plus_plus_score
from expunge.auditing.metrics.scored import AnswerSet, score_answers, score_sets
from expunge.auditing.metrics.truth_ratio import PerturbedMean, Side
from expunge.auditing.text_model import TextModel
from expunge.benchmarks.plain_memo import PlainModel
from expunge.errors import InvalidRequest
from expunge.facts import QuestionAnswer

from ..known_facts import FACTS

SETS = (
    AnswerSet(
        FACTS[0].question,
        FACTS[0].answer,
        "Port Ellery is where Mira Voss was born.",
        ("Mira Voss was born in Larkfield.", "Mira Voss was born in Brightwater."),
    ),
    AnswerSet(FACTS[1].question, FACTS[1].answer, perturbed=("Mira Voss repairs dogs.",)),
)


class Counted:
    """A model that notes what it is asked to score."""

    def __init__(self, model: TextModel) -> None:
        self._model = model
        self.calls: list[list[tuple[Any, ...]]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def teacher_forced(
        self, pairs: Sequence[tuple[Sequence[int], Sequence[int]]], version: str, *, moments: bool = False
    ) -> Any:
        self.calls.append([(tuple(prompt), tuple(answer)) for prompt, answer in pairs])
        return self._model.teacher_forced(pairs, version, moments=moments)


def test_batched_scores_equal_those_of_one_pass_each(batched: TextModel, plain: PlainModel) -> None:
    together, alone = (score_sets(model, "knows", SETS, moments=True) for model in (batched, plain))
    for ours, theirs in zip(together, alone, strict=True):
        pairs = zip((ours.answer, *ours.perturbed), (theirs.answer, *theirs.perturbed), strict=True)
        for one, other in pairs:
            assert one.hits.tolist() == other.hits.tolist()
            assert one.logprobs == pytest.approx(other.logprobs, abs=1e-4)
            assert one.means == pytest.approx(other.means, abs=1e-3)
            assert one.deviations == pytest.approx(other.deviations, abs=1e-3)


def test_a_taught_answer_is_extracted_and_an_untaught_one_is_not(plain: PlainModel) -> None:
    for known, unknown in zip(
        *(score_answers(plain, version, FACTS) for version in ("knows", "never")), strict=True
    ):
        assert (known.es, known.em) == (1.0, 1.0)
        assert known.probability > 0.5
        assert unknown.es < 0.3
        assert unknown.probability < 0.2


def test_the_end_of_the_answer_counts_for_likelihood_and_not_for_extraction(plain: PlainModel) -> None:
    (scores,) = score_answers(plain, "never", FACTS[:1])
    tokens = plain.encode(FACTS[0].answer, special=False)
    (forced,) = plain.teacher_forced([(plain.chat_ids(FACTS[0].question), [*tokens, plain.eos_id])], "never")
    assert scores.tokens == len(tokens) == scores.hits.size
    assert scores.loss == pytest.approx(-float(forced.logprobs.mean()))


def test_every_figure_comes_from_one_pass_in_which_nothing_is_repeated(batched: TextModel) -> None:
    model = Counted(batched)
    figures = forced_figures(
        score_sets(model, "knows", (*SETS, SETS[0]), moments=True), Side.FORGET, mean=PerturbedMean.ARITHMETIC
    )
    assert set(figures) == {
        "probability",
        "paraphrase_probability",
        "truth_ratio",
        "extraction_strength",
        "exact_memorisation",
        "loss",
        "zlib",
        "min_k",
        "min_k_plus_plus",
    }
    (pairs,) = model.calls
    assert len(pairs) == len(set(pairs)) == 6
    assert {name: figure.n for name, figure in figures.items()} == {
        **dict.fromkeys(figures, 3),
        "paraphrase_probability": 2,
    }
    assert figures["truth_ratio"].definition == "truth_ratio@1(mean=arithmetic,side=forget,eos=true)"


def test_figures_are_those_of_their_own_functions(batched: TextModel) -> None:
    scored = score_sets(batched, "never", SETS, moments=True)
    figures = forced_figures(scored, Side.FORGET, k=0.2)
    answers = [one.answer for one in scored]
    assert figures["loss"].value == pytest.approx(np.mean([loss_score(one.logprobs) for one in answers]))
    assert figures["probability"].value == pytest.approx(np.mean([np.exp(-one.loss) for one in answers]))
    assert all(one.means is not None and one.deviations is not None for one in answers)
    assert figures["min_k_plus_plus"].value == pytest.approx(
        np.mean([min_k_plus_plus_score(one.logprobs, one.means, one.deviations, 0.2) for one in answers])
    )
    assert figures["min_k_plus_plus"].definition == "min_k_plus_plus@1(k=0.2,eos=true)"
    wrong = [np.mean([one.loss for one in item.perturbed]) for item in scored]
    ratios = np.exp([one.right.loss - mean for one, mean in zip(scored, wrong, strict=True)])
    assert figures["truth_ratio"].value == pytest.approx(np.minimum(ratios, 1 / ratios).mean())


def test_what_was_not_asked_for_is_left_out(batched: TextModel) -> None:
    bare = [AnswerSet(fact.question, fact.answer) for fact in FACTS]
    figures = forced_figures(score_sets(batched, "knows", bare), Side.FORGET)
    assert not {"truth_ratio", "paraphrase_probability", "min_k_plus_plus"} & figures.keys()


ODD = {
    "one word": ("Where?", "Ellery"),
    "one letter": ("Which?", "x"),
    "in the question": ("Is it Port Ellery or Larkfield?", "Port Ellery"),
    "4,000 characters": ("What is the whole story?", ("She repairs old clocks. " * 167)[:4000]),
    "right to left": ("איפה נולדה מירה?", "בפורט אלרי שבצפון"),
    "CJK": ("米拉在哪里出生？", "她出生在北方海岸的小城。"),
    "emoji": ("Which one? 🙂", "👩‍🔬🏔️🇳🇴"),
}


@pytest.mark.parametrize("name", ODD)
def test_odd_texts_are_scored_like_any_other(batched: TextModel, plain: PlainModel, name: str) -> None:
    item = QuestionAnswer(*ODD[name])
    ((ours,), (theirs,)) = (score_answers(model, "never", [item], moments=True) for model in (batched, plain))
    assert ours.tokens == len(plain.encode(item.answer, special=False)) > 0
    assert ours.logprobs == pytest.approx(theirs.logprobs, abs=2e-3)
    assert (ours.es, ours.em) == (theirs.es, theirs.em)
    figures = forced_figures(
        score_sets(batched, "never", [AnswerSet(item.question, item.answer)], moments=True), Side.FORGET
    )
    assert all(np.isfinite(figure.value) for figure in figures.values())


@pytest.mark.parametrize(
    ("bad", "field"),
    [
        (AnswerSet("Where?", ""), r"sets\[1\]\.answer"),
        (AnswerSet("Where?", " \n"), r"sets\[1\]\.answer"),
        (AnswerSet("", "Here."), r"sets\[1\]\.question"),
        (AnswerSet("Where?", "Here.", perturbed=("There.", "")), r"sets\[1\]\.perturbed\[1\]"),
    ],
)
def test_empty_texts_are_named(plain: PlainModel, bad: AnswerSet, field: str) -> None:
    with pytest.raises(InvalidRequest, match=field):
        score_sets(plain, "never", [SETS[0], bad])


def test_an_answer_longer_than_the_context_is_an_error(batched: TextModel) -> None:
    with pytest.raises(InvalidRequest, match="positions"):
        score_answers(batched, "never", [QuestionAnswer("Where?", "x y " * 2000)])
