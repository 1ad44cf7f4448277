"""LocalModel gives what transformers gives for each prompt alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from torch import Tensor
from transformers import PreTrainedModel

import expunge.inference.local as local_module
from expunge.errors import InvalidRequest, ModelError, VersionNotStaged
from expunge.inference.kv import KvPool
from expunge.inference.local import LocalModel
from expunge.lora.adapter import Adapter, Pair
from expunge.models.load import LoadedModel

from .conftest import generate_plainly

QUESTION = "Where was Mira Voss born? Mira Voss was born in Port Ellery, a town on the coast."


@pytest.fixture
def prompts(local: LocalModel) -> list[list[int]]:
    """Prefixes of one text at every fifth character, two other prompts, and one repeated."""
    texts = [QUESTION[:cut] for cut in range(1, len(QUESTION), 5)]
    return [local.encode(text) for text in (*texts, "What is", "The quick brown fox", texts[3])]


def test_greedy_equals_transformers_for_every_prompt(
    local: LocalModel, plain: PreTrainedModel, prompts: list[list[int]]
) -> None:
    answers = local.greedy(prompts, local.base_version, 12)
    assert answers == [generate_plainly(plain, prompt, 12) for prompt in prompts]


def test_greedy_equals_peft_for_every_adapter(
    local: LocalModel,
    plain: PreTrainedModel,
    prompts: list[list[int]],
    tiny_adapter_folders: tuple[Path, Path],
) -> None:
    wrapped = PeftModel.from_pretrained(plain, tiny_adapter_folders[0], adapter_name="one")
    wrapped.load_adapter(tiny_adapter_folders[1], adapter_name="two")
    for version in ("one", "two"):
        wrapped.set_adapter(version)
        expected = [generate_plainly(wrapped, prompt, 8) for prompt in prompts[:6]]
        assert local.greedy(prompts[:6], version, 8) == expected


def test_versions_answer_differently(local: LocalModel) -> None:
    prompt = local.chat_ids("Where was Mira Voss born?")
    answers = [local.greedy([prompt], version, 8)[0] for version in (local.base_version, "one", "two")]
    assert len({tuple(answer) for answer in answers}) == 3


def test_answers_end_before_the_eos(local: LocalModel, prompts: list[list[int]]) -> None:
    answers = local.greedy(prompts, local.base_version, 200)
    assert any(len(answer) < 200 for answer in answers)
    assert not any(set(answer) & local.eos_ids for answer in answers)


def test_packed_prefill_equals_one_prompt_at_a_time(local: LocalModel, prompts: list[list[int]]) -> None:
    together = local.greedy(prompts, "one", 10)
    assert together == [local.greedy([prompt], "one", 10)[0] for prompt in prompts]


def test_every_prompt_may_have_a_limit_of_its_own(local: LocalModel, prompts: list[list[int]]) -> None:
    whole = local.greedy(prompts, "one", 9)
    limits = [index % 10 for index in range(len(prompts))]
    assert local.greedy(prompts, "one", limits) == [
        answer[:limit] for answer, limit in zip(whole, limits, strict=True)
    ]


def test_no_new_tokens_give_empty_answers(local: LocalModel, prompts: list[list[int]]) -> None:
    assert local.greedy(prompts[:2], "one", 0) == [[], []]


def test_teacher_forced_equals_a_plain_forward_pass(
    local: LocalModel, plain: PreTrainedModel, prompts: list[list[int]]
) -> None:
    answers = [local.encode(text) for text in (" born in Port Ellery.", " x", "")]
    pairs = [(prompt, answers[index % 3]) for index, prompt in enumerate(prompts)]
    forced = local.teacher_forced(pairs, local.base_version, moments=True)
    for (prompt, answer), scored in zip(pairs, forced, strict=True):
        with torch.inference_mode():
            logits = plain(torch.tensor([prompt + answer])).logits[0, len(prompt) - 1 : -1]
        expected = logits[: len(answer)].log_softmax(-1)
        assert scored.argmax.tolist() == expected.argmax(-1).tolist()
        at = torch.arange(len(answer))
        torch.testing.assert_close(scored.logprobs, expected[at, torch.tensor(answer, dtype=torch.long)])
        likely = expected.double()
        mean = (likely.exp() * likely).sum(-1)
        variance = (likely.exp() * (likely - mean[:, None]).square()).sum(-1)
        torch.testing.assert_close(scored.means, mean.float())
        torch.testing.assert_close(scored.deviations, variance.sqrt().float())
    assert local.teacher_forced(pairs[:1], local.base_version)[0].means is None


def test_teacher_forced_argmax_agrees_with_greedy(local: LocalModel, prompts: list[list[int]]) -> None:
    answers = local.greedy(prompts, "two", 10)
    pairs = list(zip(prompts, answers, strict=True))
    assert [scored.argmax.tolist() for scored in local.teacher_forced(pairs, "two")] == answers


def test_sampling_is_reproducible_and_independent_of_the_batch(local: LocalModel) -> None:
    prompts = [local.encode("The dog")] * 6
    drawn = local.sample(prompts, "one", 12, temperature=1.5, seed=3)
    assert drawn == local.sample(prompts, "one", 12, temperature=1.5, seed=3)
    assert drawn[:2] == local.sample(prompts[:2], "one", 12, temperature=1.5, seed=3)
    assert drawn != local.sample(prompts, "one", 12, temperature=1.5, seed=4)
    assert len({tuple(answer) for answer in drawn}) > 1


def test_sampling_at_temperature_zero_is_greedy(local: LocalModel) -> None:
    prompts = [local.encode("The dog")]
    assert local.sample(prompts, "one", 8, temperature=0) == local.greedy(prompts, "one", 8)


def test_a_missing_version_is_an_error_and_never_the_base(local: LocalModel) -> None:
    prompt = local.encode("The dog")
    for ask in (local.greedy, local.sample):
        with pytest.raises(VersionNotStaged):
            ask([prompt], "three", 4)
    with pytest.raises(VersionNotStaged):
        local.teacher_forced([(prompt, prompt)], "three")
    local.unload("one")
    with pytest.raises(VersionNotStaged):
        local.greedy([prompt], "one", 4)


def test_an_empty_or_overlong_prompt_is_named(local: LocalModel) -> None:
    with pytest.raises(InvalidRequest, match=r"prompts\[1\]"):
        local.greedy([[5], []], "one", 4)
    with pytest.raises(InvalidRequest, match=r"prompts\[0\]: needs"):
        local.greedy([[5] * local.context], "one", 4)


def test_a_version_that_computes_nan_is_an_error(
    local: LocalModel, adapters: tuple[Adapter, Adapter]
) -> None:
    huge = {path: Pair(pair.a * 1e30, pair.b * 1e30) for path, pair in adapters[0].pairs.items()}
    local.load_adapter("huge", Adapter(adapters[0].config, huge))
    with pytest.raises(ModelError, match="huge"):
        local.greedy([local.encode("The dog")], "huge", 4)
    assert local.greedy([local.encode("The dog")], "one", 4)


def test_chat_ids_carry_the_given_system_prompt(local: LocalModel) -> None:
    default, empty, own = (local.chat_ids("Who?", system) for system in (None, "", "Be brief."))
    assert "helpful assistant" in local.decode(default)
    assert "helpful assistant" not in local.decode(empty)
    assert "Be brief." in local.decode(own)


def test_long_sequences_decode_in_fewer_rows_with_the_same_answers(
    local: LocalModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts = [local.encode(text) for text in ("Where was", "Who is", "The capital of", "Ansel")]
    together = local.greedy(prompts, local.base_version, 6)
    steps: list[int] = []
    decode = local._runner.decode

    def counted(pool: KvPool, *rest: Any) -> Tensor:
        steps.append(pool.rows)
        return decode(pool, *rest)

    monkeypatch.setattr(local._runner, "decode", counted)
    monkeypatch.setattr(local_module, "KV_TOKENS", 2 * (max(map(len, prompts)) + 6))
    assert local.greedy(prompts, local.base_version, 6) == together
    assert max(steps) == 2


def test_a_service_may_allow_less_than_the_model(loaded: LoadedModel) -> None:
    model = LocalModel(loaded, slots=1, max_rank=8, max_context=16)
    prompt = [1] * 10
    assert len(model.greedy([prompt], model.base_version, 4)[0]) <= 4
    with pytest.raises(InvalidRequest, match=r"prompts\[0\].*16"):
        model.greedy([prompt], model.base_version, 20)
