"""MEMO the plain way: one prompt, one generation, one token at a time on an ordinary transformers model.

It is what `auditing.memo` is measured against: `expunge bench memo` times it, and the tests demand equal
values. Nothing here is shared, batched or skipped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from rouge_score.rouge_scorer import RougeScorer
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel, PreTrainedTokenizerBase

from expunge.auditing.memo import MemoMode, MemoOptions
from expunge.facts import QuestionAnswer
from expunge.inference.request import Sampling
from expunge.inference.sampler import Sampler


@dataclass(frozen=True)
class PlainForced:
    """Teacher forcing of one answer: log-probabilities, arg-max, and moments where asked for, each [L]."""

    logprobs: Tensor
    argmax: Tensor
    means: Tensor | None = None
    deviations: Tensor | None = None


class PlainModel:
    """An `auditing.text_model.TextModel` without batching: versions are separate models."""

    def __init__(self, versions: Mapping[str, PreTrainedModel], tokenizer: PreTrainedTokenizerBase) -> None:
        self._versions = versions
        self._tokenizer = tokenizer
        self.eos_id = cast(int, tokenizer.eos_token_id)
        self.eos_ids = frozenset([self.eos_id])
        self.smallest_margin = float("inf")  # of the last generation: top logit minus the second

    def greedy(
        self, prompts: Sequence[Sequence[int]], version: str, max_new_tokens: int | Sequence[int]
    ) -> list[list[int]]:
        """Each prompt decoded on its own, token by token."""
        limits = [max_new_tokens] * len(prompts) if isinstance(max_new_tokens, int) else max_new_tokens
        return [self._generate(prompt, version, limit) for prompt, limit in zip(prompts, limits, strict=True)]

    def sample(
        self,
        prompts: Sequence[Sequence[int]],
        version: str,
        max_new_tokens: int | Sequence[int],
        *,
        temperature: float,
        seed: int,
    ) -> list[list[int]]:
        """Each prompt answered on its own, with the sampler that serves."""
        limits = [max_new_tokens] * len(prompts) if isinstance(max_new_tokens, int) else max_new_tokens
        sampling = Sampling(temperature, seed=seed)
        return [
            self._generate(prompt, version, limit, Sampler(sampling, prompt, choice))
            for choice, (prompt, limit) in enumerate(zip(prompts, limits, strict=True))
        ]

    @torch.inference_mode()
    def _generate(
        self, prompt: Sequence[int], version: str, max_new_tokens: int, sampler: Sampler | None = None
    ) -> list[int]:
        self.smallest_margin = float("inf")
        cache = DynamicCache()
        tokens: list[int] = []
        fed = list(prompt)
        while len(tokens) < max_new_tokens:
            output = self._versions[version](torch.tensor([fed]), past_key_values=cache, logits_to_keep=1)
            (first, second), (best, _) = output.logits[0, -1].float().topk(2)
            self.smallest_margin = min(self.smallest_margin, float(first - second))
            token = sampler.choose(output.logits[0, -1]) if sampler else int(best)
            if token in self.eos_ids:
                break
            tokens.append(token)
            fed = [token]
        return tokens

    @torch.inference_mode()
    def teacher_forced(
        self,
        pairs: Sequence[tuple[Sequence[int], Sequence[int]]],
        version: str,
        *,
        moments: bool = False,
    ) -> list[PlainForced]:
        """Each pair in a forward pass of its own."""
        results = []
        for prompt, answer in pairs:
            logits = self._versions[version](torch.tensor([[*prompt, *answer]])).logits[0].float()
            predicted = logits[len(prompt) - 1 : -1]  # [L, vocabulary]
            chosen = torch.tensor(list(answer), dtype=torch.long)
            every = predicted.log_softmax(-1)
            logprobs = every.gather(1, chosen[:, None])[:, 0]
            spread = _moments(every) if moments else ()
            results.append(PlainForced(logprobs, predicted.argmax(-1), *spread))
        return results

    def encode(self, text: str, *, special: bool = True) -> list[int]:
        return cast(list[int], self._tokenizer(text, add_special_tokens=special)["input_ids"])

    def decode(self, ids: Sequence[int], *, skip_special: bool = True) -> str:
        return cast(
            str,
            self._tokenizer.decode(
                list(ids), skip_special_tokens=skip_special, clean_up_tokenization_spaces=False
            ),
        )

    def chat_ids(self, question: str, system: str | None = None) -> list[int]:
        turns = [{"role": "user", "content": question}]
        if system is not None:
            turns.insert(0, {"role": "system", "content": system})
        text = self._tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        return self.encode(cast(str, text), special=False)


def _moments(logprobs: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of log-probabilities [L, vocabulary] under themselves, each [L]."""
    p = logprobs.exp()
    mean = (p * logprobs).sum(-1)
    variance = (p * logprobs.square()).sum(-1) - mean.square()
    return mean, variance.clamp(min=0).sqrt()


@dataclass(frozen=True)
class PlainCut:
    """Score of one cut, and the smallest top-two margin its generation met (logits)."""

    offset: int
    score: float
    smallest_margin: float


@dataclass(frozen=True)
class PlainScore:
    """MEMO of one item with its cuts."""

    mean: float
    cuts: tuple[PlainCut, ...]


def plain_memo(model: PlainModel, version: str, item: QuestionAnswer, options: MemoOptions) -> PlainScore:
    """MEMO of one item over all its cuts, one generation after the other; `max_cuts` is not supported."""
    scorer = RougeScorer([options.rouge.value], use_stemmer=True)
    question, answer = item.question, item.answer
    over = answer if options.mode is MemoMode.SUFFIX else question
    cuts = []
    offset = 1
    while offset < len(over):
        if options.mode is MemoMode.SUFFIX:
            label = answer[offset:]
            if options.chat:
                prompt = model.chat_ids(question) + model.encode(answer[:offset], special=False)
            else:
                prompt = model.encode(question + " " + answer[:offset])
        else:
            label = question[offset:] + " " + answer
            head = question[:offset]
            prompt = model.chat_ids(head) if options.chat else model.encode(head)
        (tokens,) = model.greedy([prompt], version, options.max_new_tokens)
        if options.paper_compatible:
            ended = len(tokens) < options.max_new_tokens
            text = model.decode([*tokens, model.eos_id] if ended else tokens, skip_special=False)
        else:
            text = model.decode(tokens)
        precision = scorer.score(target=label, prediction=text)[options.rouge.value].precision
        cuts.append(PlainCut(offset, float(precision), model.smallest_margin))
        offset += options.window
    mean = sum(cut.score for cut in cuts) / len(cuts) if cuts else 0.0
    return PlainScore(mean, tuple(cuts))
