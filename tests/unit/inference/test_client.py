"""What goes wrong in Ray or Serve reaches the gateway as a domain error."""

from __future__ import annotations

from collections.abc import Generator

import pytest
from ray.exceptions import ActorDiedError, ActorUnavailableError, RayTaskError, TaskCancelledError
from ray.serve.exceptions import BackPressureError, ReplicaUnavailableError, RequestCancelledError

from expunge.errors import Cancelled, ExpungeError, Overloaded, Unavailable, VersionNotStaged
from expunge.inference.client import EngineClient, translate
from expunge.inference.placement import REFUSAL_S, Placement
from expunge.inference.request import GenerationRequest, ScoreRequest, ScoreResult, TokenBatch


def of_task(cause: Exception) -> RayTaskError:
    return RayTaskError("generate", "Traceback: secret place", cause)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (BackPressureError(num_queued_requests=1, max_queued_requests=1), Overloaded),
        (ActorDiedError(), Unavailable),
        (ActorUnavailableError("gone", None), Unavailable),
        (TaskCancelledError(), Cancelled),
        (RequestCancelledError("r"), Cancelled),
        (of_task(VersionNotStaged("not here")), VersionNotStaged),
        (of_task(ActorDiedError()), Unavailable),
    ],
)
def test_known_errors_are_named(error: Exception, kind: type[ExpungeError]) -> None:
    assert type(translate(error)) is kind


def test_overload_and_loss_say_when_to_retry() -> None:
    errors = (BackPressureError(num_queued_requests=1, max_queued_requests=1), ActorDiedError())
    assert all(translate(error).retry_after_s for error in errors)


def test_an_unknown_error_shows_nothing_of_itself() -> None:
    for error in (of_task(ValueError("secret")), ValueError("secret")):
        translated = translate(error)
        assert type(translated) is ExpungeError
        assert "secret" not in str(translated)
        assert "incident" in str(translated)


def test_replica_unavailable_is_unavailable() -> None:
    error = ReplicaUnavailableError.__new__(ReplicaUnavailableError)
    assert type(translate(error)) is Unavailable


class Replies:
    """A Serve response: hands over items one after the other."""

    def __init__(self, items: list[object]) -> None:
        self._items = iter(items)
        self.cancelled = False

    def __aiter__(self) -> Replies:
        return self

    async def __anext__(self) -> object:
        try:
            return next(self._items)
        except StopIteration:
            raise StopAsyncIteration from None

    def __await__(self) -> Generator[None, None, object]:
        yield from ()
        return next(self._items)

    def cancel(self) -> None:
        self.cancelled = True


class Handle:
    """The deployment's handle: each call goes to the next replica."""

    def __init__(self, *replicas: list[object]) -> None:
        self.placements: list[Placement] = []
        self.responses = [Replies(items) for items in replicas]
        self._left = iter(self.responses)
        self.generate = self.score = self

    def options(self, *, stream: bool) -> Handle:
        return self

    def remote(self, request: object, placement: Placement) -> Replies:
        self.placements.append(placement)
        return next(self._left)


HI = TokenBatch("hi", (1,), "v")


def missing(replica: str) -> VersionNotStaged:
    return VersionNotStaged("version v is not staged on this replica", metadata={"replica": replica})


REQUEST = GenerationRequest("r1", "v", prompt="hello")


async def test_another_replica_is_asked_where_one_does_not_hold_the_version() -> None:
    handle = Handle([missing("one")], [HI])
    assert [batch.text async for batch in EngineClient(handle).generate(REQUEST)] == ["hi"]
    assert all(response.cancelled for response in handle.responses)
    assert [placement.left_out for placement in handle.placements] == [set(), {"one"}]


async def test_a_version_that_no_replica_holds_is_an_error() -> None:
    handle = Handle(*([missing(name)] for name in ("one", "two", "three")))
    with pytest.raises(Unavailable) as caught:
        _ = [batch async for batch in EngineClient(handle).generate(REQUEST)]
    assert caught.value.reason == "VERSION_NOT_STAGED"
    assert caught.value.retry_after_s


async def test_any_other_error_ends_the_request_at_once() -> None:
    handle = Handle([HI, Unavailable("gone")], [HI])
    answer = EngineClient(handle).generate(REQUEST)
    assert (await anext(answer)).text == "hi"
    with pytest.raises(Unavailable):
        await anext(answer)


async def test_an_answer_that_has_begun_is_not_begun_again() -> None:
    handle = Handle([HI, missing("one")], [HI])
    answer = EngineClient(handle).generate(REQUEST)
    assert (await anext(answer)).text == "hi"
    with pytest.raises(Unavailable):
        await anext(answer)


async def test_a_score_is_asked_of_another_replica_too() -> None:
    result = ScoreResult("v", ())
    request = ScoreRequest("r1", "v", "context", "continuation")
    assert await EngineClient(Handle([missing("one")], [result])).score(request) is result
    with pytest.raises(Unavailable) as caught:
        await EngineClient(Handle(*([missing(name)] for name in ("one", "two", "three")))).score(request)
    assert caught.value.retry_after_s


async def test_whoever_refused_a_version_is_avoided_for_it_for_a_moment() -> None:
    now = [100.0]
    handle = Handle([missing("one")], [HI], [HI], [HI], [HI])
    client = EngineClient(handle, clock=lambda: now[0])
    other = GenerationRequest("r2", "w", prompt="hello")
    for request in (REQUEST, REQUEST, other):
        _ = [batch async for batch in client.generate(request)]
    now[0] += REFUSAL_S
    _ = [batch async for batch in client.generate(REQUEST)]
    avoided = [placement.avoided for placement in handle.placements]
    assert avoided == [set(), {"one"}, {"one"}, set(), set()]
    assert handle.placements[2].left_out == set()


async def test_unroutable_replicas_are_left_out_as_they_are_at_each_request() -> None:
    unroutable: list[str] = []
    handle = Handle([HI], [HI])
    client = EngineClient(handle, lambda: unroutable)
    for _ in range(2):
        _ = [batch async for batch in client.generate(REQUEST)]
        unroutable.append("two")
    assert [placement.left_out for placement in handle.placements] == [set(), {"two"}]
