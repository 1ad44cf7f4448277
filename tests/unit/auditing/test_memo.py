"""MEMO's definition: cuts, caps and profile."""

from __future__ import annotations

import pytest

from expunge.auditing.memo import (
    MemoMode,
    MemoOptions,
    MemoProfile,
    MemoScore,
    cut_offsets,
    measure_memo,
    memo_cuts,
)
from expunge.auditing.metrics.rouge import Rouge, RougeKind
from expunge.benchmarks.plain_memo import PlainModel
from expunge.errors import InvalidRequest
from expunge.facts import QuestionAnswer

ITEM = QuestionAnswer("Who is it?", "Mira Voss")


def test_cuts_are_one_then_every_w_characters() -> None:
    assert cut_offsets(12, 5) == (1, 6, 11)
    assert cut_offsets(11, 5) == (1, 6)
    assert cut_offsets(1, 5) == cut_offsets(0, 5) == ()


def test_capped_cuts_are_evenly_spread() -> None:
    assert cut_offsets(50, 5, max_cuts=4) == (1, 16, 31, 46)
    assert cut_offsets(50, 5, max_cuts=1) == (26,)
    assert cut_offsets(12, 5, max_cuts=9) == (1, 6, 11)


def test_suffix_cuts_the_answer_and_prefix_the_question(plain: PlainModel) -> None:
    suffix = memo_cuts(plain, ITEM, MemoOptions())
    assert [cut.label for cut in suffix] == ["ira Voss", "oss"]
    assert plain.decode(suffix[1].prompt) == "Who is it? Mira V"
    prefix = memo_cuts(plain, ITEM, MemoOptions(mode=MemoMode.PREFIX))
    assert [cut.label for cut in prefix] == ["ho is it? Mira Voss", " it? Mira Voss"]
    assert plain.decode(prefix[0].prompt) == "W"


def test_chat_wraps_the_question(plain: PlainModel) -> None:
    cut = memo_cuts(plain, ITEM, MemoOptions(chat=True))[1]
    assert list(cut.prompt) == plain.chat_ids("Who is it?") + plain.encode("Mira V", special=False)


def test_rouge_precision_by_hand() -> None:
    # three of four stems are in the label, none of three bigrams; the longest common sequence has two
    label, generation = "repairs clocks in the harbour", "clocks repaired by harbour"
    assert Rouge(RougeKind.ROUGE_1).precision(label, generation) == 0.75
    assert Rouge(RougeKind.ROUGE_2).precision(label, generation) == 0.0
    assert Rouge(RougeKind.ROUGE_L).precision(label, generation) == 0.5
    assert Rouge(RougeKind.ROUGE_1).precision(label, "") == 0.0


def test_an_answer_without_cuts_scores_zero(plain: PlainModel) -> None:
    items = [QuestionAnswer("Who?", ""), QuestionAnswer("Who?", "M")]
    for score in measure_memo(plain, "knows", items):
        assert (score.mean, score.cuts, score.cuts_available) == (0.0, (), 0)


@pytest.mark.parametrize("answer", ["東京で生まれた", "היא נולדה", "🎉🐙 party 🎉"])
def test_any_script_is_measured(plain: PlainModel, answer: str) -> None:
    (score,) = measure_memo(plain, "never", [QuestionAnswer("Where?", answer)], MemoOptions(max_new_tokens=5))
    assert 0 <= score.mean <= 1


def test_caps_are_said(plain: PlainModel) -> None:
    options = MemoOptions(max_cuts=1, max_new_tokens=4)
    (score,) = measure_memo(plain, "never", [ITEM], options)
    assert score.capped
    assert (len(score.cuts), score.cuts_available, score.options.max_new_tokens) == (1, 2, 4)
    assert not MemoScore(0.0, (0.0,), (1,), 1, MemoOptions()).capped


def test_a_bad_option_is_named() -> None:
    with pytest.raises(InvalidRequest, match="window"):
        MemoOptions(window=0)


def test_strength_is_the_mean_and_variation_its_relative_spread() -> None:
    scores = [MemoScore(mean, (), (), 0, MemoOptions()) for mean in (0.4, 0.6)]
    profile = MemoProfile.of(scores)
    assert profile.strength == pytest.approx(0.5)
    assert profile.variation == pytest.approx(0.2)
    assert MemoProfile.of([]) == MemoProfile(0.0, 0.0)
