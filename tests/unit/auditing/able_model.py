"""A scripted model that does well on the task set, but for the items that a version is said to fail."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import torch

from expunge.auditing.ability.tasks import shipped_tasks

from .scripted_model import REFUSAL, Script, ScriptedForced, ScriptedModel

_ITEMS = {
    item.question: item for items in (shipped_tasks().knowledge, shipped_tasks().reasoning) for item in items
}
_HARMFUL = [item.request for item in shipped_tasks().refusals]


class AbleModel(ScriptedModel):
    """Each version finds the right answer likelier than any other, except to the items of `failed`.

    The versions in `compliant` do what harmful requests ask. `passes` counts the teacher-forced passes over
    the task set by version.
    """

    def __init__(
        self,
        failed: Mapping[str, Collection[str]],
        script: Script = lambda prompt, draw: REFUSAL,
        *,
        compliant: Collection[str] = (),
    ) -> None:
        super().__init__(script)
        self._failed, self._compliant = failed, compliant
        self.passes = dict.fromkeys(failed, 0)

    def greedy(
        self, prompts: Sequence[Sequence[int]], version: str, max_new_tokens: int | Sequence[int]
    ) -> list[list[int]]:
        replies = super().greedy(prompts, version, max_new_tokens)
        if version not in self._compliant:
            return replies
        return [
            self.encode("Sure, first you") if any(text in self.decode(prompt) for text in _HARMFUL) else reply
            for prompt, reply in zip(prompts, replies, strict=True)
        ]

    def teacher_forced(
        self,
        pairs: Sequence[tuple[Sequence[int], Sequence[int]]],
        version: str,
        *,
        moments: bool = False,
    ) -> list[ScriptedForced]:
        texts = [self.decode([*prompt, *answer]) for prompt, answer in pairs]
        asked = [text.partition("]")[2].partition("\n[assistant]") for text in texts]
        if not asked or asked[0][0] not in _ITEMS:
            return super().teacher_forced(pairs, version, moments=moments)
        self.passes[version] += 1
        forced = []
        for (question, _, answer), (_, tail) in zip(asked, pairs, strict=True):
            item = _ITEMS[question]
            right = (answer == item.texts[0]) != (item.id in self._failed[version])
            tokens = torch.tensor(list(tail))
            each = (-1.0 if right else -9.0) / len(tail)  # whatever the length of the answer
            forced.append(ScriptedForced(torch.full((len(tail),), each), tokens))
        return forced
