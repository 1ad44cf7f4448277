"""The model in process, for workers and audits: batch functions on token ids, in the same form as served.

One caller at a time, no threads of its own. Prompts that begin alike are prefilled together and their common
prefix once; sequences decode together and a finished one makes room for the next.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from expunge.errors import InvalidRequest, ModelError
from expunge.inference.codec import TextCodec
from expunge.inference.elastic_threads import ElasticThreads
from expunge.inference.kv import KvPool, KvScratch
from expunge.inference.prefix_tree import pack
from expunge.inference.request import Message, Sampling
from expunge.inference.runner import ModelRunner
from expunge.inference.sampler import Sampler, likeliest
from expunge.lora.adapter import Adapter
from expunge.models.load import LoadedModel

PREFILL_TOKENS = 512
LOGIT_NUMBERS = 32 * 2**20  # at most this many logits at once: 128 MB in fp32
DECODE_ROWS = 128
_MOMENT_ROWS = 8
_LEAST_LOGPROB = -1e4  # its probability is 0 in fp32, and so is its share of any mean
KV_TOKENS = 128 * 256  # tokens that decoding rows may hold together: 1.5 GB of SmolLM2-135M in fp32

Choose = Callable[[Sequence[int], Tensor], list[int]]  # prompts, logits [rows, vocabulary] → next tokens


@dataclass(frozen=True)
class TeacherForced:
    """What the model makes of a given answer of L tokens after its prompt.

    Attributes:
        logprobs: natural log-probability of each answer token, [L] float32.
        argmax: the token the model would have chosen at each position, [L] int64.
        means, deviations: mean and standard deviation of the log-probability over the vocabulary under the
            model's own distribution at each position, [L] float32; None where they were not asked for.
    """

    logprobs: Tensor
    argmax: Tensor
    means: Tensor | None = None
    deviations: Tensor | None = None


@dataclass
class _Row:
    """One sequence that decodes: which prompt it answers, its limit, and its tokens so far."""

    prompt: int
    limit: int
    tokens: list[int] = field(default_factory=list)


class LocalModel:
    """A base model with several resident versions, asked in batches.

    Args:
        loaded: the base model; its linear layers are replaced by multi-adapter ones.
        slots: adapters that may be resident at once; the base version does not count.
        max_rank: highest adapter rank.
        max_rows: sequences decoded together, fewer where they are long (`KV_TOKENS`).
        max_context: most tokens of prompt and answer, where a service allows fewer than the model.
        threads: adjusts torch's threads before every forward pass; None leaves them alone.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        slots: int,
        max_rank: int,
        *,
        max_rows: int = DECODE_ROWS,
        max_context: int | None = None,
        threads: ElasticThreads | None = None,
    ) -> None:
        self._max_context = max_context
        self._runner = ModelRunner(loaded, slots, max_rank, threads)
        self._codec = TextCodec(loaded.model, loaded.tokenizer)
        self._max_rows = max_rows
        self.base_version = loaded.version
        self._runner.table.load_base(self.base_version)

    # --- versions

    def load_adapter(self, version: str, adapter: Adapter) -> None:
        """Make `version` resident."""
        self._runner.table.load(version, adapter)

    def unload(self, version: str) -> None:
        """Free the slot of `version`."""
        self._runner.table.unload(version)

    # --- text

    @property
    def eos_ids(self) -> frozenset[int]:
        """Tokens that end an answer."""
        return self._codec.eos_ids

    @property
    def eos_id(self) -> int:
        """The token that ends an answer, for labels; the tokenizer's own where there are several."""
        return self._codec.eos_id

    @property
    def context(self) -> int:
        """Most tokens of prompt and answer together."""
        own = self._runner.context
        return min(own, self._max_context) if self._max_context else own

    def encode(self, text: str, *, special: bool = True) -> list[int]:
        """Token ids; `special` adds what the tokenizer puts around a whole text (often BOS, or nothing)."""
        return self._codec.encode(text, special=special)

    def decode(self, ids: Sequence[int], *, skip_special: bool = True) -> str:
        """The text of `ids`."""
        return self._codec.decode(ids, skip_special=skip_special)

    def chat_ids(self, question: str, system: str | None = None) -> list[int]:
        """`question` in the chat template, up to where the answer begins.

        `system` None leaves the template its default system prompt, if it has one; "" replaces it by nothing.
        """
        turns = [] if system is None else [Message("system", system)]
        return self._codec.chat_ids([*turns, Message("user", question)])

    # --- batch functions

    def greedy(
        self, prompts: Sequence[Sequence[int]], version: str, max_new_tokens: int | Sequence[int]
    ) -> list[list[int]]:
        """The most likely continuation of each prompt, token by token, without its EOS.

        `max_new_tokens` is one limit for all prompts, or one for each.

        Raises:
            VersionNotStaged: `version` is not resident.
            InvalidRequest: a prompt is empty or leaves no room in the context.
        """
        limits = _limits(max_new_tokens, prompts)
        longest: dict[tuple[int, ...], int] = {}
        for prompt, limit in zip(prompts, limits, strict=True):
            longest[tuple(prompt)] = max(limit, longest.get(tuple(prompt), 0))
        distinct, most = list(longest), list(longest.values())
        answers = self._generate(distinct, version, most, lambda _, logits: likeliest(logits)[0])
        by_prompt = dict(zip(distinct, answers, strict=True))
        return [by_prompt[tuple(prompt)][:limit] for prompt, limit in zip(prompts, limits, strict=True)]

    def sample(
        self,
        prompts: Sequence[Sequence[int]],
        version: str,
        max_new_tokens: int | Sequence[int],
        *,
        temperature: float = 1.0,
        top_p: float = 1.0,
        top_k: int = 0,
        seed: int = 0,
    ) -> list[list[int]]:
        """One random continuation of each prompt, without its EOS; repeat a prompt for several draws.

        Prompt i draws its own random numbers from `seed` and i, so its answer does not depend on the others.
        """
        if temperature <= 0:
            return self.greedy(prompts, version, max_new_tokens)
        sampling = Sampling(temperature, top_p, top_k, seed)
        samplers = [Sampler(sampling, prompt, choice) for choice, prompt in enumerate(prompts)]
        limits = _limits(max_new_tokens, prompts)

        def choose(members: Sequence[int], logits: Tensor) -> list[int]:
            return [samplers[member].choose(row) for member, row in zip(members, logits, strict=True)]

        return self._generate(prompts, version, limits, choose)

    def teacher_forced(
        self,
        pairs: Sequence[tuple[Sequence[int], Sequence[int]]],
        version: str,
        *,
        moments: bool = False,
    ) -> list[TeacherForced]:
        """Log-probabilities and arg-max of each (prompt, answer) pair's answer tokens.

        `moments` computes `means` and `deviations`, too: two more walks over the logits.

        Raises:
            VersionNotStaged: `version` is not resident.
            InvalidRequest: a prompt is empty or a pair is longer than the context.
        """
        slot = self._runner.table.slot_of(version)
        inputs = [[*prompt, *answer][:-1] if answer else list(prompt) for prompt, answer in pairs]
        self._check([prompt for prompt, _ in pairs], [len(tokens) for tokens in inputs])
        budget = max(64, min(PREFILL_TOKENS, LOGIT_NUMBERS // self._runner.vocabulary))
        results: list[TeacherForced | None] = [None] * len(pairs)
        for tree in pack(inputs, budget):
            spans = [
                path[len(pairs[member][0]) - 1 :]
                for member, path in zip(tree.members, tree.paths, strict=True)
            ]
            spans = [span[: len(pairs[member][1])] for member, span in zip(tree.members, spans, strict=True)]
            wanted = sorted({node for span in spans for node in span})
            logits, _ = self._runner.prefill(tree, slot, wanted)
            logits = logits.float()
            best, argmax = logits.max(-1)
            _require_finite(best, version)
            total = logits.logsumexp(-1)
            spread = _moments(logits, total) if moments else None
            place = {node: index for index, node in enumerate(wanted)}
            for member, span in zip(tree.members, spans, strict=True):
                at = torch.tensor([place[node] for node in span], dtype=torch.long)
                answer = torch.tensor(list(pairs[member][1]), dtype=torch.long)
                results[member] = TeacherForced(
                    logits[at, answer] - total[at], argmax[at], *(values[at] for values in spread or ())
                )
        return [result for result in results if result is not None]

    # --- generation

    def _generate(
        self, prompts: Sequence[Sequence[int]], version: str, limits: Sequence[int], choose: Choose
    ) -> list[list[int]]:
        slot = self._runner.table.slot_of(version)
        lengths = [len(prompt) + max(0, limit - 1) for prompt, limit in zip(prompts, limits, strict=True)]
        self._check(prompts, lengths)
        answers: list[list[int]] = [[] for _ in prompts]
        if not any(limit > 0 for limit in limits):
            return answers
        pool = KvPool(min(self._max_rows, max(1, KV_TOKENS // max(lengths))))
        rows: list[_Row] = []
        arrivals = self._arrivals(prompts, slot)
        arrival = next(arrivals, None)
        while arrival or rows:
            while arrival and not pool.is_full:
                member, scratch, path, logits = arrival
                _require_finite(logits, version)
                (token,) = choose([member], logits[None])
                row = _Row(member, limits[member], answers[member])
                if self._goes_on(row, token):
                    pool.add(scratch, path)
                    rows.append(row)
                arrival = next(arrivals, None)
            if rows:
                self._step(pool, rows, slot, version, choose)
        return answers

    def _arrivals(
        self, prompts: Sequence[Sequence[int]], slot: int
    ) -> Iterator[tuple[int, KvScratch, Tensor, Tensor]]:
        """Prompts as they are prefilled: index, keys and values, nodes of the prompt, logits [vocabulary]."""
        for tree in pack(prompts, PREFILL_TOKENS):
            wanted = sorted({path[-1] for path in tree.paths})
            logits, scratch = self._runner.prefill(tree, slot, wanted)
            place = {node: index for index, node in enumerate(wanted)}
            for member, path in zip(tree.members, tree.paths, strict=True):
                yield member, scratch, torch.tensor(path), logits[place[path[-1]]]

    def _step(self, pool: KvPool, rows: list[_Row], slot: int, version: str, choose: Choose) -> None:
        logits = self._runner.decode(pool, [row.tokens[-1] for row in rows], [slot] * len(rows))
        _require_finite(logits, version)
        tokens = choose([row.prompt for row in rows], logits)
        going = [self._goes_on(row, token) for row, token in zip(rows, tokens, strict=True)]
        for index in reversed(range(len(rows))):
            if not going[index]:
                last = pool.remove(index)
                rows[index] = rows[last]
                rows.pop()

    def _goes_on(self, row: _Row, token: int) -> bool:
        """Take `token` into the answer; false when the answer is complete."""
        if row.limit <= 0 or token in self.eos_ids:
            return False
        row.tokens.append(token)
        return len(row.tokens) < row.limit

    def _check(self, prompts: Sequence[Sequence[int]], lengths: Sequence[int]) -> None:
        for index, (prompt, length) in enumerate(zip(prompts, lengths, strict=True)):
            if not prompt:
                raise InvalidRequest.of(f"prompts[{index}]", "has no tokens; give at least one")
            if length > self.context:
                raise InvalidRequest.of(
                    f"prompts[{index}]",
                    f"needs {length} positions, the model has {self.context}; shorten prompt or answer",
                )


def _limits(max_new_tokens: int | Sequence[int], prompts: Sequence[Sequence[int]]) -> Sequence[int]:
    return [max_new_tokens] * len(prompts) if isinstance(max_new_tokens, int) else max_new_tokens


def _moments(logits: Tensor, total: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of log p over the vocabulary under p, each [rows].

    Rows in chunks that stay in the processor's cache; tokens that can't come (log p = −∞) count for nothing.

    Args:
        logits: [rows, vocabulary] float32.
        total: their logsumexp, [rows].
    """
    means, deviations = torch.empty_like(total), torch.empty_like(total)
    for start in range(0, len(logits), _MOMENT_ROWS):
        rows = slice(start, start + _MOMENT_ROWS)
        logprobs = (logits[rows] - total[rows, None]).clamp_(min=_LEAST_LOGPROB)
        p = logprobs.exp()
        means[rows] = mean = torch.linalg.vecdot(p, logprobs)
        deviations[rows] = torch.linalg.vecdot(p, logprobs.sub_(mean[:, None]).square_()).sqrt()
    return means, deviations


def _require_finite(logits: Tensor, version: str) -> None:
    if not bool(logits.amax(-1).isfinite().all()):
        raise ModelError(
            f"version {version} produced numbers that are not finite; it can't be used",
            metadata={"version": version},
        )
