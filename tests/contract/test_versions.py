"""Every backend answers as the version it is asked for, or not at all."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from expunge.errors import DataLoss, FailedPrecondition, InvalidAdapter, VersionNotStaged
from expunge.inference.request import ScoreRequest
from expunge.lora.peft_format import write_adapter
from expunge.lora.shape import ModelShape
from expunge.models.skeleton import empty_model
from lora_cases import random_adapter
from tiny_model import build_tiny_adapter

from .stage import ENDLESS, Stage, Version, first_batch

pytestmark = pytest.mark.asyncio(loop_scope="session")

# Longer than the block of tokens that any backend keeps.
LONG = "The quick brown fox jumps over the lazy dog, and the dog does not mind at all. " * 3


async def test_a_version_that_is_not_staged_is_refused_and_never_answered_by_the_base(stage: Stage) -> None:
    for version in (stage.three.id, "nobody", "", "base"):
        with pytest.raises(VersionNotStaged):
            await stage.batches(replace(stage.ask(stage.base, "The dog"), version=version))
        with pytest.raises(VersionNotStaged):
            await stage.backend.score(ScoreRequest("s", version, "a", "b"))


async def test_a_base_version_that_was_unloaded_is_refused_too(stage: Stage) -> None:
    assert await stage.backend.unload_version(stage.base.id)
    with pytest.raises(VersionNotStaged):
        await stage.answer(stage.ask(stage.base, "The dog"))
    assert await stage.answer(stage.ask(stage.one, "The dog")) == stage.expected(stage.one, "The dog")


async def test_a_request_keeps_its_version_while_others_come_and_go(stage: Stage) -> None:
    running = stage.backend.generate(stage.ask(stage.one, ENDLESS, max_tokens=120))
    tokens = list((await first_batch(running)).token_ids)
    assert await stage.backend.unload_version(stage.two.id)
    await stage.load(stage.three)
    assert await stage.answer(stage.ask(stage.three, "The dog")) == stage.expected(stage.three, "The dog")
    async for batch in running:
        tokens += batch.token_ids
    assert tokens == stage.expected(stage.one, ENDLESS, 120)


async def test_unloading_waits_for_the_last_use_and_lets_no_new_one_in(stage: Stage) -> None:
    running = stage.backend.generate(stage.ask(stage.one, ENDLESS, max_tokens=120))
    tokens = list((await first_batch(running)).token_ids)
    unloading = asyncio.create_task(stage.backend.unload_version(stage.one.id))
    await asyncio.wait([unloading], timeout=0)
    assert stage.one.id not in stage.backend.staged()
    with pytest.raises(VersionNotStaged):
        await stage.answer(stage.ask(stage.one, "The dog"))
    assert not unloading.done()
    async for batch in running:
        tokens += batch.token_ids
    assert tokens == stage.expected(stage.one, ENDLESS, 120)
    assert await unloading


async def test_a_version_wanted_again_while_it_leaves_stays(stage: Stage) -> None:
    running = stage.backend.generate(stage.ask(stage.one, ENDLESS, max_tokens=60))
    await first_batch(running)
    unloading = asyncio.create_task(stage.backend.unload_version(stage.one.id))
    await asyncio.wait([unloading], timeout=0)
    await stage.load(stage.one)
    assert await unloading is False
    assert stage.one.id in stage.backend.staged()
    assert [batch async for batch in running][-1].finish


async def test_unloading_frees_the_slot(stage: Stage) -> None:
    await stage.load(stage.three)
    with pytest.raises(FailedPrecondition) as caught:
        await stage.load(stage.four)
    assert caught.value.reason == "SLOTS_FULL"
    assert await stage.backend.unload_version(stage.two.id)
    await stage.load(stage.four)
    for version in (stage.one, stage.three, stage.four):
        assert await stage.answer(stage.ask(version, "She studied")) == stage.expected(version, "She studied")
    assert stage.backend.stats().staged == 4


async def test_slots_do_not_wear_out(stage: Stage) -> None:
    for version in (stage.three, stage.four) * 4:
        await stage.load(version)
        assert await stage.answer(stage.ask(version, "How many")) == stage.expected(version, "How many")
        assert await stage.backend.unload_version(version.id)


async def test_kept_prompts_never_cross_versions(stage: Stage) -> None:
    """Nor does a version that left and came back find what it had kept."""
    cached = stage.backend.stats().cached_prompt_tokens

    async def hits(version: Version) -> bool:
        nonlocal cached
        before, wanted = cached, stage.expected(version, LONG)
        assert await stage.answer(stage.ask(version, LONG)) == wanted
        cached = stage.backend.stats().cached_prompt_tokens
        return cached > before

    await _leave_and_return(stage, stage.base, stage.one, stage.two)
    assert [await hits(version) for version in (stage.base, stage.one, stage.two)][1:] == [False, False]
    assert [await hits(version) for version in (stage.base, stage.one, stage.two)] == [True, True, True]
    await _leave_and_return(stage, stage.one)
    assert [await hits(version) for version in (stage.one, stage.one)] == [False, True]
    assert await stage.backend.unload_version(stage.one.id)
    await stage.load(stage.three)  # in the place that became free
    assert [await hits(version) for version in (stage.three, stage.two)] == [False, True]


async def test_a_version_pushed_again_answers_as_before(stage: Stage) -> None:
    prompt = "What is the capital of the island?"
    await _leave_and_return(stage, stage.one)
    assert await stage.answer(stage.ask(stage.one, prompt)) == stage.expected(stage.one, prompt)
    assert await stage.answer(stage.ask(stage.two, prompt)) == stage.expected(stage.two, prompt)


async def test_a_bad_version_is_refused_and_the_others_go_on(stage: Stage, tmp_path: Path) -> None:
    staged = stage.backend.staged()
    record, folder = stage.three.record, stage.three.folder
    with pytest.raises(DataLoss):
        await stage.backend.load_version(replace(record, id="0" * 64), folder)
    with pytest.raises(FailedPrecondition, match="belongs to base model"):
        await stage.backend.load_version(replace(record, id="1" * 64, base_digest="other"), folder)
    with pytest.raises(InvalidAdapter):
        await stage.backend.load_version(record, None)
    assert stage.backend.staged() == staged
    assert await stage.answer(stage.ask(stage.one, "The dog")) == stage.expected(stage.one, "The dog")


async def test_modules_the_base_model_has_not_are_refused_not_skipped(
    stage: Stage, model_folder: Path, tmp_path: Path
) -> None:
    folder = build_tiny_adapter(tmp_path / "foreign", model_folder, targets=("q_proj", "embed_tokens"))
    foreign = Version.of(folder, stage.base.record.base_digest)
    with pytest.raises(InvalidAdapter, match="embed_tokens"):
        await stage.load(foreign)
    assert foreign.id not in stage.backend.staged()


async def test_ranks_and_scales_by_module_are_as_peft_has_them(
    stage: Stage, model_folder: Path, tmp_path: Path
) -> None:
    shape = ModelShape.of(empty_model(model_folder), stage.base.record.base_digest)
    patterned = random_adapter(
        shape, seed=5, rank=4, alpha=6.0, rslora=True, rank_pattern={"q_proj": 2, "down_proj": 7}, spread=0.3
    )
    write_adapter(patterned, tmp_path / "patterned")
    version = Version.of(tmp_path / "patterned", stage.base.record.base_digest)
    assert await stage.backend.unload_version(stage.two.id)
    await stage.load(version)
    for prompt in ("The dog", "She studied medicine"):
        assert await stage.answer(stage.ask(version, prompt)) == stage.expected(version, prompt)
    assert stage.expected(version, "The dog") != stage.expected(stage.base, "The dog")


async def _leave_and_return(stage: Stage, *versions: Version) -> None:
    for version in versions:
        assert await stage.backend.unload_version(version.id)
    await stage.load(*versions)
