"""What running streams notice of a long prompt, and what a known beginning saves; through the engine."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tokenizers import Tokenizer

from expunge.benchmarks.serving.engine_asker import IMPOSSIBLE
from expunge.benchmarks.serving.prompts import end_tokens
from expunge.benchmarks.serving.statistics import Spread
from expunge.config import Settings
from expunge.gateway.base_model import BaseModel
from expunge.inference.backend import Backend, open_backend
from expunge.inference.request import GenerationRequest, Sampling
from expunge.lora.files import read_config, version_id
from expunge.registry.records import VersionKind, VersionRecord

STREAMS = 8
LONG_PROMPT = 2000
KNOWN_PROMPT = 512
_SHORT_PROMPT = 32
_SETTLING_TOKENS = 20  # of each stream, until all run and the engine knows what a step costs
_QUIET_TOKENS = 100


class _Gaps:
    """Seconds between tokens, of all streams together."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self._more = asyncio.Event()

    def add(self, seconds: float) -> None:
        self.seconds.append(seconds)
        self._more.set()

    async def reach(self, count: int) -> None:
        """Wait until there are so many."""
        while len(self.seconds) < count:
            self._more.clear()
            await self._more.wait()


class Streams:
    """One engine with the base version."""

    def __init__(self, engine: Backend, base: BaseModel) -> None:
        self._engine = engine
        self._version, self._digest = base.version, base.digest
        self._never_ends = Sampling(logit_bias=tuple((one, IMPOSSIBLE) for one in end_tokens(base.folder)))
        self._tokens = Tokenizer.from_file(str(base.folder / "tokenizer.json")).get_vocab_size()

    @classmethod
    async def start(cls, settings: Settings) -> Streams:
        base = BaseModel.find(settings)
        engine = await open_backend(settings)
        engine.start()
        await engine.load_version(VersionRecord(base.version, VersionKind.BASE, "base", base.digest), None)
        return cls(engine, base)

    def close(self) -> None:
        self._engine.close()

    async def stall(self, seed: int) -> tuple[Spread, Spread]:
        """Seconds between tokens of `STREAMS` streams: quiet, and while `LONG_PROMPT` prompt tokens enter."""
        with self._streaming(seed) as quiet:
            await quiet.reach(STREAMS * (_SETTLING_TOKENS + _QUIET_TOKENS))
        with self._streaming(seed + 1) as busy:
            await busy.reach(STREAMS * _SETTLING_TOKENS)
            before = len(busy.seconds)
            await self.first_token_s(self._prompt(seed + 2, LONG_PROMPT))
            during = busy.seconds[before:]
        return Spread.of(quiet.seconds[STREAMS * _SETTLING_TOKENS :]), Spread.of(during)

    async def load(self, seed: int, adapter: Path) -> tuple[Spread, Spread]:
        """Seconds between tokens of `STREAMS` streams: quiet, and while the adapter in a folder is loaded."""
        config = read_config(adapter)
        record = VersionRecord(version_id(adapter), VersionKind.ADAPTER, "a", self._digest, config.rank)
        with self._streaming(seed) as gaps:
            await gaps.reach(STREAMS * (_SETTLING_TOKENS + _QUIET_TOKENS))
            before = len(gaps.seconds)
            await self._engine.load_version(record, adapter)
            await gaps.reach(len(gaps.seconds) + STREAMS)  # also the step that ran meanwhile
            quiet, during = gaps.seconds[STREAMS * _SETTLING_TOKENS : before], gaps.seconds[before:]
        await self._engine.unload_version(record.id)
        return Spread.of(quiet), Spread.of(during)

    async def known_beginning(self, seed: int) -> tuple[float, float]:
        """Seconds to the first token after `KNOWN_PROMPT` tokens: of the first prompt, and of later ones."""
        beginning = self._prompt(seed, KNOWN_PROMPT)
        taken = [
            await self.first_token_s((*beginning, *self._prompt(seed + 1 + index, 4))) for index in range(4)
        ]
        return taken[0], max(taken[1:])

    async def first_token_s(self, prompt: tuple[int, ...]) -> float:
        """Seconds to the first token of one request."""
        started = time.perf_counter()
        async for _ in self._engine.generate(self._request(prompt, 1)):
            break
        return time.perf_counter() - started

    @contextmanager
    def _streaming(self, seed: int) -> Iterator[_Gaps]:
        """Streams that go on until the block ends."""
        gaps = _Gaps()
        tasks = [asyncio.ensure_future(self._stream(seed * 100 + index, gaps)) for index in range(STREAMS)]
        try:
            yield gaps
        finally:
            for task in tasks:
                task.cancel()

    async def _stream(self, seed: int, gaps: _Gaps) -> None:
        last: float | None = None
        request = self._request(self._prompt(seed, _SHORT_PROMPT), 1500, client=str(seed))
        async for _ in self._engine.generate(request):
            now = time.perf_counter()
            if last is not None:
                gaps.add(now - last)
            last = now

    def _request(self, prompt: tuple[int, ...], tokens: int, client: str = "") -> GenerationRequest:
        return GenerationRequest(
            "bench",
            self._version,
            prompt_tokens=prompt,
            max_tokens=tokens,
            sampling=self._never_ends,
            client=client,
        )

    def _prompt(self, seed: int, tokens: int) -> tuple[int, ...]:
        numbers = random.Random(seed)
        return tuple(numbers.randrange(self._tokens) for _ in range(tokens))
