"""What OpenAI's client sees of an engine that is full."""

from __future__ import annotations

import asyncio
from pathlib import Path

import openai

from gateway.conftest import serve


async def test_who_finds_no_room_is_told_when_to_come_back_and_does(
    tiny_model_folder: Path, tmp_path: Path
) -> None:
    async for live in serve(tiny_model_folder, tmp_path, max_batch_rows=1, max_queue=1):
        url = f"http://{live.gateway.addresses.http}/v1"
        client = openai.AsyncOpenAI(base_url=url, api_key="token-of-client", max_retries=0)

        async def ask(asking: openai.AsyncOpenAI, tokens: int) -> openai.types.Completion:
            return await asking.completions.create(model="", prompt="The", max_tokens=tokens, temperature=0)

        async with client:
            found = await asyncio.gather(*(ask(client, 100) for _ in range(8)), return_exceptions=True)
            refused = [one for one in found if isinstance(one, openai.RateLimitError)]
            answered = [one for one in found if not isinstance(one, BaseException)]
            assert len(refused) + len(answered) == 8
            assert refused
            assert answered
            assert all(int(one.response.headers["retry-after"]) >= 1 for one in refused)
            assert all(one.type == "rate_limit_error" for one in refused)

            patient = client.with_options(max_retries=20)
            assert len(await asyncio.gather(*(ask(patient, 5) for _ in range(8)))) == 8
