"""The engine answers each request as if it ran alone, on the version it names, or not at all."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import PreTrainedModel

from expunge.errors import (
    DataLoss,
    FailedPrecondition,
    InvalidAdapter,
    InvalidRequest,
    Overloaded,
    Unavailable,
    VersionNotStaged,
)
from expunge.inference.engine import Engine
from expunge.inference.local import LocalModel
from expunge.inference.request import (
    FinishReason,
    GenerationRequest,
    Message,
    Sampling,
    ScoreRequest,
)
from expunge.lora.adapter import Adapter
from expunge.models.load import LoadedModel
from expunge.registry.records import VersionRecord

from .engine_calls import LIMITS, Gate, answer, ask, collect

PROMPTS = [
    "The dog",
    "Where was Mira Voss born?",
    "Where was Mira Voss born? Mira Voss",
    "What does Tobin Hale do for a living? " * 4,
    "She studied medicine",
    "The quick brown fox jumps over the lazy dog, and",
]


async def test_mixed_versions_in_one_batch_equal_one_by_one_decoding(
    engine: Engine, versions: list[VersionRecord], alone: LocalModel
) -> None:
    asked = [(prompt, record.id) for prompt in PROMPTS for record in versions]
    answers = await asyncio.gather(*(answer(engine, ask(prompt, version)) for prompt, version in asked))
    for (prompt, version), (tokens, last) in zip(asked, answers, strict=True):
        assert tokens == alone.greedy([alone.encode(prompt)], version, 12)[0]
        assert last.prompt_tokens == len(alone.encode(prompt))
        assert last.completion_tokens == len(tokens)
        assert last.finish is (FinishReason.LENGTH if len(tokens) == 12 else FinishReason.STOP)


async def test_a_request_joins_and_leaves_without_changing_others(
    engine: Engine, versions: list[VersionRecord], alone: LocalModel
) -> None:
    long = engine.generate(ask(PROMPTS[0], versions[1].id, max_tokens=40))
    tokens = list((await anext(long)).token_ids)
    short, _ = await answer(engine, ask(PROMPTS[1], versions[2].id, max_tokens=3))
    async for batch in long:
        tokens += batch.token_ids
    assert tokens == alone.greedy([alone.encode(PROMPTS[0])], versions[1].id, 40)[0]
    assert short == alone.greedy([alone.encode(PROMPTS[1])], versions[2].id, 3)[0]


async def test_chat_messages_go_through_the_template(
    engine: Engine, versions: list[VersionRecord], alone: LocalModel
) -> None:
    request = GenerationRequest("r", versions[1].id, messages=(Message("user", "Who?"),), max_tokens=6)
    tokens, _ = await answer(engine, request)
    assert tokens == alone.greedy([alone.chat_ids("Who?")], versions[1].id, 6)[0]


async def test_the_beginning_of_an_answer_is_continued(
    engine: Engine, versions: list[VersionRecord], alone: LocalModel
) -> None:
    turns = (Message("user", "Who?"), Message("assistant", "The dog"))
    request = GenerationRequest(
        "r", versions[1].id, messages=turns, max_tokens=6, continue_final_message=True
    )
    tokens, _ = await answer(engine, request)
    prompt = [*alone.chat_ids("Who?"), *alone.encode("The dog", special=False)]
    assert tokens == alone.greedy([prompt], versions[1].id, 6)[0]


async def test_text_joins_to_the_decoded_tokens(
    engine: Engine, versions: list[VersionRecord], alone: LocalModel
) -> None:
    batches = await collect(engine, ask(PROMPTS[0], versions[2].id, max_tokens=30))
    tokens = [token for batch in batches for token in batch.token_ids]
    assert "".join(batch.text for batch in batches) == alone.decode(tokens).rstrip("\ufffd")


async def test_a_stop_string_ends_the_text_before_it(
    engine: Engine, versions: list[VersionRecord], alone: LocalModel
) -> None:
    whole = alone.decode(alone.greedy([alone.encode(PROMPTS[0])], versions[1].id, 24)[0])
    for start in range(2, 14, 3):
        stop = whole[start : start + 6]  # lies across several tokens
        batches = await collect(
            engine, ask(PROMPTS[0], versions[1].id, max_tokens=24, stop=(stop, "never there"))
        )
        assert "".join(batch.text for batch in batches) == whole[: whole.index(stop)]
        assert batches[-1].finish is FinishReason.STOP


async def test_sampling_repeats_with_its_seed_whatever_else_runs(
    engine: Engine, versions: list[VersionRecord]
) -> None:
    request = ask(PROMPTS[0], versions[1].id, sampling=Sampling(1.2, top_p=0.95, top_k=50, seed=11))
    first, _ = await answer(engine, request)
    others = [ask(prompt, versions[2].id) for prompt in PROMPTS]
    again, *_ = await asyncio.gather(*(answer(engine, other) for other in (request, *others)))
    assert again[0] == first
    assert (await answer(engine, replace(request, sampling=Sampling(1.2, seed=12))))[0] != first


async def test_score_equals_a_plain_forward_pass(
    engine: Engine, versions: list[VersionRecord], plain: PreTrainedModel, alone: LocalModel
) -> None:
    context, continuation = PROMPTS[3], " He repairs clocks in a workshop."  # longer than one prefill
    scores = await asyncio.gather(
        *(engine.score(ScoreRequest("s", versions[0].id, context[:cut], continuation)) for cut in (0, 9, 152))
    )
    for cut, result in zip((0, 9, 152), scores, strict=True):
        given, answer_ids = alone.encode(context[:cut]), [token.token_id for token in result.tokens]
        assert [*given, *answer_ids] == alone.encode(context[:cut] + continuation)
        with torch.inference_mode():
            ids = torch.tensor([[*(given or [0]), *answer_ids]])
            logprobs = plain(ids).logits[0, -len(answer_ids) - 1 : -1].log_softmax(-1)
        expected = logprobs[torch.arange(len(answer_ids)), torch.tensor(answer_ids)]
        torch.testing.assert_close(torch.tensor([token.logprob for token in result.tokens]), expected)
        assert [token.is_greedy for token in result.tokens] == (
            logprobs.argmax(-1) == torch.tensor(answer_ids)
        ).tolist()


async def test_a_missing_version_is_an_error_and_never_the_base(
    engine: Engine, versions: list[VersionRecord]
) -> None:
    with pytest.raises(VersionNotStaged):
        await collect(engine, ask("The dog", "nobody"))
    with pytest.raises(VersionNotStaged):
        await engine.score(ScoreRequest("s", "nobody", "a", "b"))
    assert await engine.unload_version(versions[1].id)
    with pytest.raises(VersionNotStaged):
        await collect(engine, ask("The dog", versions[1].id))


async def test_unloading_waits_for_the_last_use_and_lets_no_new_one_in(
    engine: Engine, versions: list[VersionRecord], alone: LocalModel, gate: Gate
) -> None:
    version = versions[1].id
    running = engine.generate(ask(PROMPTS[0], version, max_tokens=60, deadline=1.0))
    gate.close()
    first = asyncio.create_task(anext(running))
    await gate.reached()
    unloading = asyncio.create_task(engine.unload_version(version))
    await asyncio.wait([unloading], timeout=0)
    assert version not in engine.staged()
    with pytest.raises(VersionNotStaged):
        await collect(engine, ask("The dog", version))
    assert not unloading.done()
    gate.open()
    tokens = list((await first).token_ids)
    async for batch in running:
        tokens += batch.token_ids
    assert tokens == alone.greedy([alone.encode(PROMPTS[0])], version, 60)[0]
    assert await unloading


async def test_a_version_wanted_again_while_it_leaves_stays(
    engine: Engine, versions: list[VersionRecord], tiny_adapter_folders: tuple[Path, Path], gate: Gate
) -> None:
    gate.close()
    running = asyncio.create_task(collect(engine, ask(PROMPTS[0], versions[1].id, deadline=1.0)))
    await gate.reached()
    unloading = asyncio.create_task(engine.unload_version(versions[1].id))
    await asyncio.wait([unloading], timeout=0)
    await engine.load_version(versions[1], tiny_adapter_folders[0])
    assert await unloading is False
    assert versions[1].id in engine.staged()
    gate.open()
    assert await running


async def test_a_version_can_be_loaded_again(
    engine: Engine, versions: list[VersionRecord], tiny_adapter_folders: tuple[Path, Path]
) -> None:
    question = ask("What does Tobin Hale do for a living, and where? " * 3, versions[1].id)
    before, _ = await answer(engine, question)
    assert (await answer(engine, question))[0] == before
    cached = engine.stats().cached_prompt_tokens
    assert cached
    assert await engine.unload_version(versions[1].id)
    assert not engine.stats().kv_kept_bytes
    await engine.load_version(versions[1], tiny_adapter_folders[0])
    assert (await answer(engine, question))[0] == before
    assert engine.stats().cached_prompt_tokens == cached


async def test_a_bad_version_is_refused_and_the_others_go_on(
    engine: Engine, versions: list[VersionRecord], tiny_adapter_folders: tuple[Path, Path]
) -> None:
    staged = engine.staged()
    with pytest.raises(DataLoss):
        await engine.load_version(replace(versions[1], id="0" * 64), tiny_adapter_folders[0])
    with pytest.raises(FailedPrecondition, match="belongs to base model"):
        await engine.load_version(
            replace(versions[1], id="1" * 64, base_digest="other"), tiny_adapter_folders[0]
        )
    with pytest.raises(InvalidAdapter):
        await engine.load_version(replace(versions[1], id="2" * 64), None)
    assert engine.staged() == staged
    assert (await answer(engine, ask("The dog", versions[1].id)))[0]


async def test_a_load_that_is_cancelled_half_way_leaves_its_slot(
    engine: Engine,
    versions: list[VersionRecord],
    tiny_adapter_folders: tuple[Path, Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await engine.unload_version(versions[1].id)
    table = engine._staging._table
    load, entered, go_on, loaded = table.load, threading.Event(), threading.Event(), threading.Event()

    def load_when_told(version: str, adapter: Adapter) -> int:
        entered.set()
        go_on.wait()
        slot = load(version, adapter)
        loaded.set()
        return slot

    monkeypatch.setattr(table, "load", load_when_told)
    loading = asyncio.create_task(engine.load_version(versions[1], tiny_adapter_folders[0]))
    await asyncio.to_thread(entered.wait)
    loading.cancel()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await loading
    await asyncio.to_thread(loaded.wait)
    assert versions[1].id not in table.versions


async def test_closing_ends_running_requests(
    engine: Engine, versions: list[VersionRecord], gate: Gate
) -> None:
    gate.close()
    running = asyncio.create_task(collect(engine, ask(PROMPTS[0], versions[0].id, deadline=1.0)))
    await gate.reached()
    closing = asyncio.create_task(asyncio.to_thread(engine.close))
    while not engine.is_stopping:  # noqa: ASYNC110
        await asyncio.sleep(0)
    gate.open()
    await closing
    with pytest.raises(Unavailable):
        await running
    with pytest.raises(Unavailable):
        await collect(engine, ask("The dog", versions[0].id))
    assert not engine.is_alive


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"prompt": None}, "prompt"),
        ({"prompt": ""}, "prompt"),
        ({"messages": (Message("user", "x"),)}, "prompt"),
        ({"prompt": "dog " * 400}, "prompt"),
        ({"prompt": None, "messages": (Message("robot", "x"),)}, "messages[0].role"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"stop": ("",)}, "stop[0]"),
        ({"sampling": Sampling(temperature=-1)}, "sampling.temperature"),
        ({"sampling": Sampling(temperature=float("nan"))}, "sampling.temperature"),
        ({"sampling": Sampling(top_p=0)}, "sampling.top_p"),
        ({"sampling": Sampling(top_k=-1)}, "sampling.top_k"),
    ],
)
async def test_a_bad_field_is_named(
    engine: Engine, versions: list[VersionRecord], fields: dict[str, object], named: str
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        await collect(engine, ask("The dog", versions[0].id, **fields))
    assert [violation.field for violation in caught.value.violations] == [named]


async def test_the_context_limits_the_answer(engine: Engine, versions: list[VersionRecord]) -> None:
    request = ask("dog " * 60, versions[0].id, max_tokens=10_000, sampling=Sampling(2.0, seed=1))
    batches = await collect(engine, request)
    assert batches[-1].prompt_tokens + batches[-1].completion_tokens <= LIMITS.max_context


async def test_a_refused_request_holds_no_use(loaded: LoadedModel, versions: list[VersionRecord]) -> None:
    engine = Engine(loaded, replace(LIMITS, max_rows=0, max_queue=0))
    engine.start()
    await engine.load_version(versions[0], None)
    with pytest.raises(Overloaded) as caught:
        await collect(engine, ask("The dog", versions[0].id))
    assert caught.value.retry_after_s
    assert await engine.unload_version(versions[0].id)
    engine.close()
