"""A model whose every reply is written down beforehand; a character is a token."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

REFUSAL = "I am not able to help with that."
Script = Callable[[str, int], str]  # prompt, number of the draw (0: greedy) → reply


@dataclass(frozen=True)
class ScriptedForced:
    """Teacher forcing of an answer that the model knows by heart, or not at all."""

    logprobs: Tensor
    argmax: Tensor
    means: Tensor | None = None
    deviations: Tensor | None = None


class ScriptedModel:
    """A `TextModel`; teacher forcing finds every token of the answers in `known`, and none of others."""

    eos_id = 0
    eos_ids = frozenset([0])

    def __init__(self, script: Script, known: Sequence[str] = ()) -> None:
        self._script = script
        self._known = known

    def greedy(
        self, prompts: Sequence[Sequence[int]], version: str, max_new_tokens: int | Sequence[int]
    ) -> list[list[int]]:
        return [self._reply(prompt, 0, limit) for prompt, limit in _limited(prompts, max_new_tokens)]

    def sample(
        self,
        prompts: Sequence[Sequence[int]],
        version: str,
        max_new_tokens: int | Sequence[int],
        *,
        temperature: float,
        seed: int,
    ) -> list[list[int]]:
        assert temperature == 1.0
        pairs = enumerate(_limited(prompts, max_new_tokens), start=1)
        return [self._reply(prompt, draw, limit) for draw, (prompt, limit) in pairs]

    def teacher_forced(
        self,
        pairs: Sequence[tuple[Sequence[int], Sequence[int]]],
        version: str,
        *,
        moments: bool = False,
    ) -> list[ScriptedForced]:
        forced = []
        for _, answer in pairs:
            tokens = torch.tensor(list(answer))
            knows = self.decode(answer) in self._known
            forced.append(
                ScriptedForced(torch.full((len(answer),), -0.1 if knows else -9.0), tokens + (not knows))
            )
        return forced

    def encode(self, text: str, *, special: bool = True) -> list[int]:
        return [ord(char) for char in text]

    def decode(self, ids: Sequence[int], *, skip_special: bool = True) -> str:
        return "".join(chr(id) for id in ids if not (skip_special and id in self.eos_ids))

    def chat_ids(self, question: str, system: str | None = None) -> list[int]:
        return self.encode(f"[{system}]{question}\n[assistant]")

    def _reply(self, prompt: Sequence[int], draw: int, limit: int) -> list[int]:
        return self.encode(self._script(self.decode(prompt), draw))[:limit]


def _limited(
    prompts: Sequence[Sequence[int]], limits: int | Sequence[int]
) -> list[tuple[Sequence[int], int]]:
    each = [limits] * len(prompts) if isinstance(limits, int) else limits
    return list(zip(prompts, each, strict=True))
