"""General questions and sentences: what a model should go on saying as before."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib import resources

from expunge.facts import QuestionAnswer
from expunge.unlearning.sequences import ChatEncoder, Sequence


@dataclass(frozen=True)
class GenericTexts:
    """`data/generic.json`: question–answer pairs and raw sentences."""

    questions: tuple[QuestionAnswer, ...]
    sentences: tuple[str, ...]

    @classmethod
    def load(cls) -> GenericTexts:
        """Read the package's own texts."""
        text = resources.files("expunge.unlearning").joinpath("data/generic.json").read_text("utf-8")
        data = json.loads(text)
        questions = tuple(QuestionAnswer(item["question"], item["answer"]) for item in data["questions"])
        return cls(questions, tuple(data["sentences"]))

    def sequences(self, encoder: ChatEncoder) -> list[Sequence]:
        """Questions in the chat template, sentences as raw text."""
        asked = [encoder.chat(item.question, item.answer) for item in self.questions]
        return asked + [encoder.raw(sentence) for sentence in self.sentences]
