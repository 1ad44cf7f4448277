"""A version whose weights were attacked, as a `TextModel`: it can be asked whatever versions are asked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

from expunge.errors import VersionNotStaged
from expunge.inference.local import LocalModel, TeacherForced


class AttackedModel:
    """Answers under the id of the version that was attacked, and under no other.

    Args:
        local: holds the attacked weights, under the id `resident`.
        version: id of the version that was attacked.
    """

    def __init__(self, local: LocalModel, resident: str, version: str) -> None:
        self._local: LocalModel | None = local
        self._resident = resident
        self._version = version

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._local = None  # frees the weights, whoever still holds this object

    @property
    def eos_ids(self) -> frozenset[int]:
        """Token ids that end a generation."""
        return self._open.eos_ids

    @property
    def eos_id(self) -> int:
        """The token that ends an answer, where one has to be written."""
        return self._open.eos_id

    def greedy(
        self, prompts: Sequence[Sequence[int]], version: str, max_new_tokens: int | Sequence[int]
    ) -> list[list[int]]:
        """As `LocalModel.greedy`. Raises VersionNotStaged for another version than the attacked one."""
        return self._answering(version).greedy(prompts, self._resident, max_new_tokens)

    def sample(
        self,
        prompts: Sequence[Sequence[int]],
        version: str,
        max_new_tokens: int | Sequence[int],
        *,
        temperature: float = 1.0,
        seed: int = 0,
    ) -> list[list[int]]:
        """As `LocalModel.sample`. Raises VersionNotStaged for another version than the attacked one."""
        local = self._answering(version)
        return local.sample(prompts, self._resident, max_new_tokens, temperature=temperature, seed=seed)

    def teacher_forced(
        self,
        pairs: Sequence[tuple[Sequence[int], Sequence[int]]],
        version: str,
        *,
        moments: bool = False,
    ) -> list[TeacherForced]:
        """As `LocalModel.teacher_forced`. Raises VersionNotStaged for another version."""
        return self._answering(version).teacher_forced(pairs, self._resident, moments=moments)

    def encode(self, text: str, *, special: bool = True) -> list[int]:
        """Token ids of raw text."""
        return self._open.encode(text, special=special)

    def decode(self, ids: Sequence[int], *, skip_special: bool = True) -> str:
        """Text of token ids."""
        return self._open.decode(ids, skip_special=skip_special)

    def chat_ids(self, question: str, system: str | None = None) -> list[int]:
        """One user turn through the chat template, up to where the answer begins."""
        return self._open.chat_ids(question, system)

    @property
    def _open(self) -> LocalModel:
        if self._local is None:
            raise VersionNotStaged(
                f"the attacked weights of version {self._version} were freed; attack it again to ask it"
            )
        return self._local

    def _answering(self, version: str) -> LocalModel:
        if version != self._version:
            raise VersionNotStaged(
                f"version {version} was not attacked here, {self._version} was; attack it first"
            )
        return self._open
