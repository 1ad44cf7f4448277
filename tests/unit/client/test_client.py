"""The client, for threads and for coroutines, against a real server that follows a script."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from client.scripted_service import WAIT, Script, answer, chunk, serving
from expunge import client as api
from expunge import errors
from expunge.client import NO_RETRIES, AsyncClient, Client, RetryPolicy, user
from expunge.rpc.inference.v1 import inference_pb2 as pb

DOWN = errors.Unavailable("draining", reason="DRAINING")
GONE = errors.Unavailable("the replica was lost", retry_after_s=3.0)


class Asker:
    """One of the two clients behind the same plain calls, with pauses that are noted, not waited for."""

    def __init__(self, address: str, is_async: bool, **options: Any) -> None:
        self.pauses: list[float] = []
        self._is_async = is_async
        self._address = address
        self._options = options

    def generate(self, **request: Any) -> api.Answer:
        return self._run(lambda client: client.generate(**request))

    def score(self, *arguments: Any, **options: Any) -> api.Score:
        return self._run(lambda client: client.score(*arguments, **options))

    def models(self) -> tuple[api.Model, ...]:
        return self._run(lambda client: client.models())

    def stream(self, seen: list[api.Chunk], most: int = 100, **request: Any) -> None:
        """Puts chunks into `seen`, and leaves after `most`."""

        async def collected(chunks: Any) -> None:
            async for one in chunks:
                seen.append(one)
                if len(seen) >= most:
                    await chunks.aclose()

        def collect(client: Any) -> Any:
            chunks = client.stream(**request)
            if self._is_async:
                return collected(chunks)
            for one in chunks:
                seen.append(one)
                if len(seen) >= most:
                    chunks.close()
            return None

        self._run(collect)

    def _run(self, call: Callable[[Any], Any]) -> Any:
        if self._is_async:
            return asyncio.run(self._run_async(call))
        with Client(
            self._address, "secret", sleep=self.pauses.append, draw=lambda: 0.0, **self._options
        ) as client:
            return call(client)

    async def _run_async(self, call: Callable[[Any], Any]) -> Any:
        async def sleep(seconds: float) -> None:
            self.pauses.append(seconds)

        async with AsyncClient(
            self._address, "secret", sleep=sleep, draw=lambda: 0.0, **self._options
        ) as client:
            return await call(client)


@pytest.fixture(params=["threads", "coroutines"])
def asking(request: pytest.FixtureRequest) -> Callable[..., Any]:
    @contextmanager
    def made(script: Script, **options: Any) -> Iterator[Asker]:
        with serving(script) as address:
            yield Asker(address, request.param == "coroutines", **options)

    return made


def test_an_answer_has_everything_that_the_service_said(asking: Callable[..., Any]) -> None:
    said = answer("Par")
    said.logprobs.add(token_id=5, text="Par", logprob=-0.5).likeliest.add(token_id=9, text="Lon", logprob=-2)
    said.prompt_logprobs.add(token_id=1, text="The")
    said.more_choices.add(text="Rome", finish_reason=pb.FINISH_REASON_LENGTH)
    with asking(Script([[said]])) as asker:
        got = asker.generate(prompt="The")
    likeliest = (api.TokenLogprob(9, "Lon", -2.0),)
    assert got == api.Answer(
        text="Par",
        version="v1",
        generation=7,
        finish_reason=api.FinishReason.STOP,
        usage=api.Usage(3, 1),
        request_id="request-1",
        alias="default",
        logprobs=(api.TokenLogprob(5, "Par", -0.5, likeliest),),
        prompt_logprobs=(api.TokenLogprob(1, "The", None),),
        more_choices=(api.Choice("Rome", api.FinishReason.LENGTH),),
    )
    assert [one.text for one in got.choices] == ["Par", "Rome"]


def test_every_field_of_a_request_arrives(asking: Callable[..., Any]) -> None:
    script = Script([[answer()]])
    sampling = api.Sampling(0.5, 0.9, 4, 11, 0.1, 1.2, 0.3, 0.4, {2: -100.0})
    with asking(script) as asker:
        asker.generate(
            messages=[api.system("Be brief."), user("Hi"), api.assistant("He")],
            alias="tuned",
            max_tokens=0,
            stop=["\n"],
            sampling=sampling,
            continue_final_message=True,
            n=2,
            logprobs=0,
            prompt_logprobs=True,
            priority=api.Priority.BATCH,
        )
    assert script.metadata[0]["authorization"] == "Bearer secret"
    assert script.asked == [
        pb.GenerateRequest(
            alias="tuned",
            messages=[
                pb.Message(role="system", content="Be brief."),
                pb.Message(role="user", content="Hi"),
                pb.Message(role="assistant", content="He"),
            ],
            max_tokens=0,
            stop=["\n"],
            sampling=pb.Sampling(
                temperature=0.5,
                top_p=0.9,
                top_k=4,
                seed=11,
                min_p=0.1,
                repetition_penalty=1.2,
                presence_penalty=0.3,
                frequency_penalty=0.4,
                logit_bias={2: -100.0},
            ),
            continue_final_message=True,
            n=2,
            logprobs=0,
            prompt_logprobs=True,
            priority=pb.PRIORITY_BATCH,
        )
    ]


def test_what_is_not_given_stays_unset(asking: Callable[..., Any]) -> None:
    script = Script([[answer()]])
    with asking(script) as asker:
        asker.generate(prompt_tokens=[4, 5])
    assert script.asked == [pb.GenerateRequest(prompt_tokens=[4, 5])]


def test_a_stream_yields_its_chunks_and_ends_with_usage(asking: Callable[..., Any]) -> None:
    seen: list[api.Chunk] = []
    with asking(Script([[chunk("Pa"), chunk("ris", pb.FINISH_REASON_STOP)]])) as asker:
        asker.stream(seen, prompt="x")
    assert [(one.text, one.finish_reason, one.usage) for one in seen] == [
        ("Pa", None, None),
        ("ris", api.FinishReason.STOP, api.Usage(3, 2)),
    ]
    assert {(one.version, one.generation, one.token_count) for one in seen} == {("v1", 7, 1)}


def test_scores_and_models_are_typed(asking: Callable[..., Any]) -> None:
    token = pb.TokenScore(token_id=3, text=" a", logprob=-1.5, is_greedy=True)
    score = pb.ScoreResponse(logprob=-1.5, is_greedy=True, tokens=[token], version="v1", generation=7)
    model = pb.Model(alias="default", generation=7, targets=[pb.ModelTarget(version="v1", weight=100)])
    script = Script([[score], [pb.ListModelsResponse(models=[model])]])
    with asking(script) as asker:
        got = asker.score(" a", context="It is", priority=api.Priority.BATCH)
        models = asker.models()
    assert got.tokens == (api.TokenScore(3, " a", -1.5, True),)
    assert (got.logprob, got.is_greedy, got.version, got.generation) == (-1.5, True, "v1", 7)
    assert script.asked[0] == pb.ScoreRequest(context="It is", continuation=" a", priority=pb.PRIORITY_BATCH)
    assert models == (api.Model("default", 7, (api.ModelTarget("v1", 100),)),)


def test_a_call_is_tried_again_until_the_service_is_available(asking: Callable[..., Any]) -> None:
    with asking(Script([[DOWN], [DOWN], [answer()]])) as asker:
        assert asker.generate(prompt="x").text == "Paris"
        assert asker.pauses == [0.05, 0.1]


def test_the_pause_that_the_service_names_is_kept(asking: Callable[..., Any]) -> None:
    with asking(Script([[GONE], [answer()]])) as asker:
        asker.generate(prompt="x")
        assert asker.pauses == [3.0]


def test_a_stream_of_which_nothing_came_is_tried_again(asking: Callable[..., Any]) -> None:
    seen: list[api.Chunk] = []
    with asking(Script([[DOWN], [chunk("Pa", pb.FINISH_REASON_STOP)]])) as asker:
        asker.stream(seen, prompt="x")
        assert asker.pauses == [0.05]
    assert [one.text for one in seen] == ["Pa"]


def test_a_stream_that_fails_part_way_is_not_tried_again(asking: Callable[..., Any]) -> None:
    seen: list[api.Chunk] = []
    script = Script([[chunk("Pa"), DOWN], [chunk("Rome", pb.FINISH_REASON_STOP)]])
    with asking(script) as asker, pytest.raises(api.Unavailable, match="draining"):
        asker.stream(seen, prompt="x")
    assert [one.text for one in seen] == ["Pa"]
    assert len(script.asked) == 1


def test_retries_come_to_an_end_and_tell_the_last_failure(asking: Callable[..., Any]) -> None:
    script = Script([[DOWN], [DOWN], [errors.Unavailable("still draining")]])
    with (
        asking(script, retry=RetryPolicy(retries=2)) as asker,
        pytest.raises(api.Unavailable, match="still draining"),
    ):
        asker.generate(prompt="x")
    assert len(script.asked) == 3


def test_a_pause_beyond_the_timeout_is_not_begun(asking: Callable[..., Any]) -> None:
    script = Script([[GONE]])
    with asking(script) as asker, pytest.raises(api.Unavailable) as failure:
        asker.generate(prompt="x", timeout_s=2.0)
    assert failure.value.retry_after_s == 3.0
    assert asker.pauses == []


def test_all_tries_share_one_timeout(asking: Callable[..., Any]) -> None:
    ticks = iter([0.0, 0.0, 20.0, 20.0, 20.0])
    script = Script([[DOWN], [answer()]])
    with asking(script, clock=lambda: next(ticks), timeout_s=30.0) as asker:
        asker.generate(prompt="x")
    first, second = script.time_left
    assert first is not None
    assert 20 < first < 33  # of 30; gRPC rounds up on the wire
    assert second is not None
    assert 0 < second < 15  # of 10; gRPC rounds up on the wire


def test_a_deadline_ends_the_call(asking: Callable[..., Any]) -> None:
    script = Script([[WAIT, answer()]])
    with asking(script) as asker, pytest.raises(api.DeadlineExceeded) as failure:
        asker.generate(prompt="x", timeout_s=0.2)
    assert failure.value.status == "DEADLINE_EXCEEDED"
    assert len(script.asked) <= 1


@pytest.mark.parametrize(
    ("raised", "kind", "status"),
    [
        (errors.InvalidRequest.of("max_tokens", "is huge"), api.InvalidRequest, "INVALID_ARGUMENT"),
        (errors.NotFound("no alias x"), api.NotFound, "NOT_FOUND"),
        (errors.RefusedByPolicy("refused"), api.RefusedByPolicy, "FAILED_PRECONDITION"),
        (errors.FailedPrecondition("not yet"), api.FailedPrecondition, "FAILED_PRECONDITION"),
        (errors.Overloaded("full", retry_after_s=1.5), api.Overloaded, "RESOURCE_EXHAUSTED"),
        (errors.Unauthenticated("who?"), api.Unauthenticated, "UNAUTHENTICATED"),
        (errors.PermissionDenied("no"), api.PermissionDenied, "PERMISSION_DENIED"),
        (errors.DataLoss("damaged"), api.DataLoss, "DATA_LOSS"),
        (errors.Unimplemented("later"), api.Unimplemented, "UNIMPLEMENTED"),
        (errors.AlreadyExists("taken"), api.AlreadyExists, "ALREADY_EXISTS"),
        (errors.StaleGeneration("moved on"), api.CallError, "ABORTED"),
        (errors.ExpungeError("a secret of the inside"), api.CallError, "INTERNAL"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_other_failures_are_typed_and_never_tried_again(
    asking: Callable[..., Any], raised: errors.ExpungeError, kind: type[api.CallError], status: str
) -> None:
    script = Script([[raised], [answer()]])
    with asking(script) as asker, pytest.raises(api.CallError) as failure:
        asker.generate(prompt="x")
    assert type(failure.value) is kind
    assert (failure.value.status, failure.value.reason) == (status, raised.reason)
    assert failure.value.request_id == "request-1"
    assert failure.value.retry_after_s == raised.retry_after_s
    assert len(script.asked) == 1


def test_the_fields_that_are_wrong_are_told(asking: Callable[..., Any]) -> None:
    wrong = errors.Violation("max_tokens", "must be from 1 to 2047")
    with (
        asking(Script([[errors.InvalidRequest.of_all([wrong])]])) as asker,
        pytest.raises(api.InvalidRequest) as failure,
    ):
        asker.generate(prompt="x")
    assert failure.value.violations == (wrong,)


def test_a_service_that_is_not_there_is_unavailable(asking: Callable[..., Any]) -> None:
    with asking(Script([]), retry=NO_RETRIES) as asker:
        pass
    with pytest.raises(api.Unavailable) as failure:
        asker.generate(prompt="x", timeout_s=20.0)
    assert (failure.value.reason, failure.value.request_id) == ("UNAVAILABLE", "")


def test_leaving_a_stream_cancels_the_call(asking: Callable[..., Any]) -> None:
    script = Script([[chunk("Pa"), WAIT]])
    with asking(script) as asker:
        asker.stream([], most=1, prompt="x")
        assert script.ended.wait(30)
