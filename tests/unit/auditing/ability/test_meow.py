"""MEOW's measures on a scripted model and on the tiny one."""

from __future__ import annotations

import pytest

from expunge.auditing.ability.meow import SHOTS, generation, shipped_passages, understanding
from expunge.auditing.ability.tasks import shipped_tasks
from expunge.auditing.text_model import TextModel
from expunge.errors import InvalidRequest

from ..scripted_model import ScriptedModel

ITEMS = shipped_tasks().knowledge[:12]


def label_of(prompt: str) -> str:
    """The label of the right choice of the last question."""
    question = prompt.rpartition("Question: ")[2]
    item = next(item for item in ITEMS if question.startswith(item.question))
    (line,) = [line for line in question.splitlines() if line[3:] == item.choices[0] and line[1:3] == ". "]
    return line[0]


def test_one_that_knows_gives_every_label_and_one_that_always_says_the_same_a_share() -> None:
    knows = understanding(ScriptedModel(lambda prompt, draw: f" {label_of(prompt)}\n\nQ"), "v", ITEMS)
    assert (knows.value, knows.n, knows.definition) == (1.0, 8, "gold_label@1(characters=10)")
    same = understanding(ScriptedModel(lambda prompt, draw: " B"), "v", ITEMS)
    assert same.value == 0.25


def test_four_solved_examples_come_first() -> None:
    prompts: list[str] = []
    understanding(ScriptedModel(lambda prompt, draw: prompts.append(prompt) or " A"), "v", ITEMS)
    assert {prompt.count("Question: ") for prompt in prompts} == {SHOTS + 1}
    assert all(prompt.endswith("\nAnswer:") for prompt in prompts)
    solved = [line for line in prompts[0].splitlines() if line.startswith("Answer: ")]
    assert [line[-1] for line in solved] == ["A", "B", "C", "D"]


def test_too_few_items_are_refused() -> None:
    with pytest.raises(InvalidRequest, match="more than the 4"):
        understanding(ScriptedModel(lambda prompt, draw: ""), "v", ITEMS[:4])


def test_a_copier_has_all_of_bleu_and_a_stammerer_repeats_itself() -> None:
    passages = shipped_passages()

    def copy(prompt: str, draw: int) -> str:
        return next(text.removeprefix(prompt) for text in passages if text.startswith(prompt))

    copied = generation(ScriptedModel(copy), "v", passages)
    assert copied.bleu == pytest.approx(1.0)
    assert copied.rep_3.value == 0.0
    stammered = generation(ScriptedModel(lambda prompt, draw: "so so so so so so so so so so"), "v", passages)
    assert stammered.bleu < 0.01
    assert stammered.rep_3.value == pytest.approx(1 - 1 / 8)


def test_the_tiny_model_goes_on_with_every_passage(batched: TextModel) -> None:
    found = generation(batched, "untouched", shipped_passages())
    assert (found.rep_3.n, found.rep_3.definition) == (len(shipped_passages()), "rep_3@1(unit=words)")
    with pytest.raises(InvalidRequest, match=r"passages\[0\].*more than 32 tokens"):
        generation(batched, "untouched", ["Too short."])
