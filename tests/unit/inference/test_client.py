"""What goes wrong in Ray or Serve reaches the gateway as a domain error."""

from __future__ import annotations

import pytest
from ray.exceptions import ActorDiedError, ActorUnavailableError, RayTaskError, TaskCancelledError
from ray.serve.exceptions import BackPressureError, ReplicaUnavailableError, RequestCancelledError

from expunge.errors import Cancelled, ExpungeError, Overloaded, Unavailable, VersionNotStaged
from expunge.inference.client import translate


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
