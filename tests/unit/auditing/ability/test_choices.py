"""Multiple choice by log-likelihood, on a real tiny model and by hand."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from expunge.auditing.ability.choices import right_choices
from expunge.auditing.ability.tasks import ChoiceItem
from expunge.auditing.text_model import TextModel

from ..known_facts import FACTS, RETAIN
from ..scripted_model import ScriptedForced, ScriptedModel

ITEMS = (
    ChoiceItem(
        "born",
        FACTS[0].question,
        "Mira Voss was born in {}, a town on the northern coast.",
        ("Port Ellery", "Saint Orrin", "Larkfield"),
    ),
    ChoiceItem(
        "married", RETAIN[0].question, "Ansel Quirk is married to {}.", ("Della Marsh", "Ines Corvale")
    ),
)


def test_what_a_model_learnt_is_likelier_than_what_it_did_not(batched: TextModel) -> None:
    assert right_choices(batched, "knows", ITEMS) == [True, True]
    assert right_choices(batched, "never", ITEMS)[1]
    swapped = [ChoiceItem(one.id, one.question, one.answer, one.choices[::-1]) for one in ITEMS]
    assert right_choices(batched, "knows", swapped) == [False, False]


def test_one_at_a_time_gives_the_same(batched: TextModel) -> None:
    alone = [right_choices(batched, "untouched", [item])[0] for item in ITEMS]
    assert right_choices(batched, "untouched", ITEMS) == alone


class Weighed(ScriptedModel):
    """A letter has the log-probability that `weights` gives it."""

    def __init__(self, weights: dict[str, float]) -> None:
        super().__init__(lambda prompt, draw: "")
        self._weights = weights
        self.forced: list[str] = []

    def teacher_forced(
        self,
        pairs: Sequence[tuple[Sequence[int], Sequence[int]]],
        version: str,
        *,
        moments: bool = False,
    ) -> list[ScriptedForced]:
        self.forced += [self.decode(answer) for _, answer in pairs]
        return [
            ScriptedForced(
                torch.tensor([self._weights[chr(id)] for id in answer]), torch.tensor(list(answer))
            )
            for _, answer in pairs
        ]


def test_the_sum_over_the_answers_tokens_decides_and_a_tie_is_not_right() -> None:
    weights = {"a": -1.0, "b": -3.0, "c": -2.0, ".": 0.0}
    items = [
        ChoiceItem("right", "?", "It is {}.", ("a", "b", "aac")),  # −1 against −3 and −4
        ChoiceItem("wrong", "?", "It is {}.", ("aaaa", "b")),  # −4 against −3
        ChoiceItem("tie", "?", "It is {}.", ("aa", "c")),  # −2 against −2
    ]
    model = Weighed(weights)
    assert right_choices(model, "v", items) == [True, False, False]
    assert model.forced == ["a.", "b.", "aac.", "aaaa.", "b.", "aa.", "c."]
