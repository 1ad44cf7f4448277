"""What auditing needs of a model: batched decoding and teacher forcing by version.

`inference.local.LocalModel` fulfils it; so does the plain one-at-a-time implementation in
`benchmarks.plain_memo`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torch import Tensor


class ForcedTokens(Protocol):
    """Teacher forcing of one answer of L tokens."""

    @property
    def logprobs(self) -> Tensor:
        """Natural-log probability of each answer token, [L]."""

    @property
    def argmax(self) -> Tensor:
        """Arg-max token id at each answer position, [L]."""

    @property
    def means(self) -> Tensor | None:
        """Mean of the log-probability over the vocabulary under the model's own distribution, [L]."""

    @property
    def deviations(self) -> Tensor | None:
        """Standard deviation of the same, [L]."""


class TextModel(Protocol):
    """A language model that holds several versions, asked in batches of token ids."""

    @property
    def eos_ids(self) -> frozenset[int]:
        """Token ids that end a generation."""

    @property
    def eos_id(self) -> int:
        """The token that ends an answer, where one has to be written."""

    def greedy(
        self, prompts: Sequence[Sequence[int]], version: str, max_new_tokens: int | Sequence[int]
    ) -> list[list[int]]:
        """Greedy continuation of each prompt, ended by EOS (which is left out) or by its limit."""

    def sample(
        self,
        prompts: Sequence[Sequence[int]],
        version: str,
        max_new_tokens: int | Sequence[int],
        *,
        temperature: float,
        seed: int,
    ) -> list[list[int]]:
        """A random continuation of each prompt, as serving draws it; repeat a prompt for several draws."""

    def teacher_forced(
        self,
        pairs: Sequence[tuple[Sequence[int], Sequence[int]]],
        version: str,
        *,
        moments: bool = False,
    ) -> Sequence[ForcedTokens]:
        """Score each (prompt ids, answer ids) pair; with `moments` also `means` and `deviations`."""

    def encode(self, text: str, *, special: bool = True) -> list[int]:
        """Token ids of raw text; `special` adds what the tokenizer puts around a whole text."""

    def decode(self, ids: Sequence[int], *, skip_special: bool = True) -> str:
        """Text of token ids."""

    def chat_ids(self, question: str, system: str | None = None) -> list[int]:
        """One user turn through the chat template, up to where the answer begins.

        `system=None` leaves the system turn to the template (its default prompt, if it has one);
        `system=""` asks with an empty one.
        """
