"""A response must come from one version, and one that was in force when it was admitted."""

from __future__ import annotations

from google.protobuf.timestamp_pb2 import Timestamp

from expunge.cli.demo.responses import About, Outcome, Response
from expunge.cli.demo.timeline import Timeline
from expunge.rpc.operator.v1 import rollout_pb2


def rollout(generation: int, version: str, at: int) -> rollout_pb2.Rollout:
    return rollout_pb2.Rollout(
        alias="default",
        generation=generation,
        targets=[rollout_pb2.Target(version=version, weight=100)],
        committed_at=Timestamp(seconds=at),
    )


def answered(sent: float, first: float, *versions: tuple[str, int]) -> Response:
    return Response(About.OTHERS, Outcome.ANSWERED, sent, first, first + 1, versions)


TIMELINE = Timeline.of(rollout(2, "new", 200), [rollout(1, "old", 100)], now=300.0)


def test_a_response_of_the_version_in_force_is_consistent() -> None:
    assert TIMELINE.is_consistent(answered(150, 151, ("old", 1)))
    assert TIMELINE.is_consistent(answered(250, 251, ("new", 2)))


def test_a_request_sent_before_the_flip_may_be_answered_by_either_version() -> None:
    assert TIMELINE.is_consistent(answered(199.9, 205, ("old", 1)))
    assert TIMELINE.is_consistent(answered(199.9, 205, ("new", 2)))


def test_the_old_version_long_after_the_flip_is_inconsistent() -> None:
    late = answered(201, 202, ("old", 1))
    assert TIMELINE.inconsistent([late]) == [late]


def test_the_new_version_before_its_commit_is_inconsistent() -> None:
    assert not TIMELINE.is_consistent(answered(150, 151, ("new", 2)))


def test_two_versions_in_one_response_are_inconsistent_even_if_it_failed_later() -> None:
    mixed = Response(About.OTHERS, Outcome.FAILED, 150, 151, 152, (("old", 1), ("new", 2)))
    assert TIMELINE.inconsistent([mixed]) == [mixed]


def test_a_version_that_its_generation_did_not_name_is_inconsistent() -> None:
    assert not TIMELINE.is_consistent(answered(150, 151, ("base:0", 1)))


def test_a_failed_response_without_any_chunk_mixes_nothing() -> None:
    failed = Response(About.OTHERS, Outcome.FAILED, 150, 150, 151, (), status="UNAVAILABLE")
    assert TIMELINE.inconsistent([failed]) == []
