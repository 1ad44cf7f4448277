"""A seed gives one text, whatever else the engine does; options change what they say and nothing else."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace
from typing import Any

import pytest

from expunge.errors import InvalidRequest
from expunge.inference.engine import Engine
from expunge.inference.local import LocalModel
from expunge.inference.request import FinishReason, GenerationRequest, Sampling
from expunge.registry.records import VersionRecord

from .engine_calls import LIMITS, answer, ask, collect

SHORT = "The dog"
LONG = "What does Tobin Hale do for a living? " * 9  # several pieces, while others decode
OTHERS = ["Where was Mira Voss born?", "She studied medicine", "The quick brown fox jumps over", "His number"]

OPTIONS: list[dict[str, Any]] = [
    {},
    {"top_p": 0.9},
    {"top_k": 40, "min_p": 0.01},
    {"repetition_penalty": 1.3, "presence_penalty": 0.5, "frequency_penalty": 0.3},
    {"logit_bias": ((5, 3.0), (9, -100.0)), "top_p": 0.99},
]


def seeded(prompt: str, version: str, options: dict[str, Any], seed: int = 11) -> GenerationRequest:
    return ask(prompt, version, max_tokens=24, sampling=Sampling(1.1, seed=seed, **options))


@pytest.mark.parametrize("options", OPTIONS)
async def test_a_seed_gives_one_text_whatever_else_runs(
    engine: Engine, versions: list[VersionRecord], options: dict[str, Any]
) -> None:
    requests = [seeded(prompt, versions[1].id, options) for prompt in (SHORT, LONG)]
    assert len(LONG) > LIMITS.idle_prefill_tokens
    alone = [(await answer(engine, request))[0] for request in requests]
    again = [(await answer(engine, request))[0] for request in requests]  # from the prefix cache
    assert again == alone

    joining = [
        ask(prompt, record.id, max_tokens=3 + 5 * index, sampling=Sampling(1.5, seed=index))
        for index, prompt in enumerate(OTHERS)
        for record in versions
    ]
    crowded = await asyncio.gather(
        *(answer(engine, request) for request in (*joining[:6], *requests, *joining[6:]))
    )
    assert [tokens for tokens, _ in crowded[6:8]] == alone


async def test_a_seed_gives_one_text_in_a_batch_of_its_own_kind(
    engine: Engine, versions: list[VersionRecord]
) -> None:
    request = seeded(SHORT, versions[2].id, {})
    alone, _ = await answer(engine, request)
    crowd = await asyncio.gather(*(answer(engine, request) for _ in range(9)))  # packed into one prefill
    assert [tokens for tokens, _ in crowd] == [alone] * 9


async def test_choices_of_one_seed_differ_and_repeat(engine: Engine, versions: list[VersionRecord]) -> None:
    request = seeded(SHORT, versions[1].id, {})
    first = [await answer(engine, replace(request, choice=choice)) for choice in range(4)]
    again = [await answer(engine, replace(request, choice=choice)) for choice in range(4)]
    assert len({tuple(tokens) for tokens, _ in first}) == 4
    assert [tokens for tokens, _ in again] == [tokens for tokens, _ in first]


async def test_other_seeds_and_none_give_other_texts(engine: Engine, versions: list[VersionRecord]) -> None:
    requests = [seeded(SHORT, versions[1].id, {}, seed) for seed in (1, 2**64 - 1, -7)]
    requests += [ask(SHORT, versions[1].id, max_tokens=24, sampling=Sampling(1.1)) for _ in range(3)]
    texts = [tuple((await answer(engine, request))[0]) for request in requests]
    assert len(set(texts)) == len(texts)


async def test_neutral_options_leave_greedy_text_as_it_is(
    engine: Engine, versions: list[VersionRecord], alone: LocalModel
) -> None:
    sampling = Sampling(top_p=0.3, top_k=5, min_p=0.5, seed=4, logit_bias=((7, 0.0),))
    tokens, _ = await answer(engine, ask(SHORT, versions[1].id, sampling=sampling))
    assert tokens == alone.greedy([alone.encode(SHORT)], versions[1].id, 12)[0]


async def test_a_biased_token_is_chosen_and_a_barred_one_is_not(
    engine: Engine, versions: list[VersionRecord]
) -> None:
    plain, _ = await answer(engine, ask(SHORT, versions[1].id))
    barred = Sampling(logit_bias=tuple((token, -100.0) for token in set(plain)))
    tokens, _ = await answer(engine, ask(SHORT, versions[1].id, sampling=barred))
    assert not set(tokens) & set(plain)
    forced = Sampling(temperature=1.0, logit_bias=((plain[0], 100.0),))
    tokens, _ = await answer(engine, ask(SHORT, versions[1].id, sampling=forced))
    assert set(tokens) == {plain[0]}


async def test_a_frequency_penalty_breaks_a_loop(engine: Engine, versions: list[VersionRecord]) -> None:
    loop = Sampling(logit_bias=((20, 30.0),))
    tokens, _ = await answer(engine, ask(SHORT, versions[1].id, max_tokens=40, sampling=loop))
    assert set(tokens) == {20}
    broken = replace(loop, frequency_penalty=2.0)
    tokens, _ = await answer(engine, ask(SHORT, versions[1].id, max_tokens=40, sampling=broken))
    assert tokens[:3] == [20, 20, 20]
    assert set(tokens) > {20}


async def test_given_tokens_are_run_as_they_are(
    engine: Engine, versions: list[VersionRecord], alone: LocalModel
) -> None:
    given = tuple(alone.encode(letter)[0] for letter in SHORT)  # letter by letter
    assert alone.encode(SHORT) != list(given)
    request = ask("", versions[1].id, prompt=None, prompt_tokens=given)
    tokens, last = await answer(engine, request)
    assert tokens == alone.greedy([given], versions[1].id, 12)[0]
    assert last.prompt_tokens == len(given)


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"prompt": None, "prompt_tokens": (1, 560)}, "prompt_tokens[1]"),
        ({"prompt": None, "prompt_tokens": (1,) * LIMITS.max_context}, "prompt_tokens"),
        ({"sampling": Sampling(logit_bias=((560, 1.0),))}, "sampling.logit_bias[560]"),
    ],
)
async def test_what_the_model_does_not_know_is_named(
    engine: Engine, versions: list[VersionRecord], fields: dict[str, Any], named: str
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        await collect(engine, ask(SHORT, versions[0].id, **fields))
    assert [violation.field for violation in caught.value.violations] == [named]


@pytest.mark.parametrize("case", range(4))
async def test_joining_and_leaving_rows_do_not_change_a_seeded_text(
    engine: Engine, versions: list[VersionRecord], case: int
) -> None:
    dice = random.Random(case)
    request = replace(seeded(dice.choice((SHORT, LONG)), versions[1].id, OPTIONS[case]), max_tokens=60)
    alone, _ = await answer(engine, request)

    async def visit() -> None:
        """Another caller, who may leave before the end."""
        other = ask(
            dice.choice((*OTHERS, LONG)),
            dice.choice(versions).id,
            max_tokens=40,
            sampling=Sampling(dice.choice((0.0, 1.2)), seed=dice.randrange(99)),
        )
        stream, stays = engine.generate(other), dice.randrange(1, 30)
        taken = 0
        async for batch in stream:
            taken += len(batch.token_ids)
            if taken >= stays:
                break
        await stream.aclose()

    before = asyncio.gather(*(visit() for _ in range(5)))
    watched = asyncio.create_task(answer(engine, request))
    while not watched.done():
        await asyncio.gather(visit(), visit())
    await before
    assert (await watched)[0] == alone


async def test_a_row_that_ends_leaves_the_others_their_numbers(
    engine: Engine, versions: list[VersionRecord]
) -> None:
    request = seeded(LONG, versions[1].id, {"top_p": 0.95})
    tokens, last = await answer(engine, request)
    assert last.finish in (FinishReason.LENGTH, FinishReason.STOP)
    leaving = engine.generate(ask("She studied", versions[2].id, max_tokens=200))
    await anext(leaving)
    running = asyncio.create_task(answer(engine, request))
    await leaving.aclose()
    assert (await running)[0] == tokens
