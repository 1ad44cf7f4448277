"""What vLLM would answer as the base model is refused when it is loaded."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from expunge.errors import InvalidAdapter
from expunge.lora.adapter import Adapter, Pair
from expunge.lora.peft_format import read_adapter, write_adapter

from .stage import Stage

pytestmark = [
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.parametrize("opener", ["vllm"], indirect=True),
]

NUMBER = 4711


def without_effect(adapter: Adapter) -> Adapter:
    pairs = {path: Pair(pair.a, pair.b * 0) for path, pair in adapter.pairs.items()}
    return replace(adapter, pairs=pairs)


async def test_an_adapter_that_does_not_reach_the_result_is_refused(stage: Stage, tmp_path: Path) -> None:
    from vllm.lora.request import LoRARequest

    from expunge.inference.vllm.engine import VllmEngine
    from expunge.inference.vllm.probe import Probe

    assert isinstance(stage.backend, VllmEngine)
    assert stage.one.folder
    llm = stage.backend._llm
    probe = Probe(llm, len(stage.reference.tokenizer))
    adapter = read_adapter(stage.one.folder)
    write_adapter(without_effect(adapter), tmp_path / "idle")
    idle = LoRARequest("idle", NUMBER, str(tmp_path / "idle"))
    with pytest.raises(InvalidAdapter, match=f"adapter {NUMBER}"):
        await probe.check("idle", adapter, idle)  # not even loaded
    assert await llm.add_lora(idle)
    try:
        with pytest.raises(InvalidAdapter, match="just what the base model does"):
            await asyncio.gather(
                probe.check("idle", adapter, idle), stage.answer(stage.ask(stage.two, "The"))
            )
        await probe.check("idle", without_effect(adapter), idle)  # nothing else is to be expected of this
    finally:
        await llm.remove_lora(NUMBER)
