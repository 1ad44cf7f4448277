"""`expunge rollout`: what aliases point at."""

from __future__ import annotations

from typing import Annotated

import typer
from google.protobuf.duration_pb2 import Duration
from rich.markup import escape

from expunge.cli.messages import as_dict, enum_word, moment, short
from expunge.cli.session import Session, command
from expunge.errors import InvalidRequest
from expunge.rpc.operator.v1 import rollout_pb2 as pb
from expunge.rpc.operator.v1.rollout_pb2_grpc import RolloutServiceStub

app = typer.Typer(help="Rollouts: which version an alias points at.", no_args_is_help=True)

_CANARY = "With --canary"

AliasName = Annotated[str, typer.Argument(help="The model name that clients call.")]
Expected = Annotated[
    int | None,
    typer.Option(
        min=0, help="Generation you have read; the change fails if it has moved. Default: the present one."
    ),
]
Reason = Annotated[str, typer.Option(help="Why; kept in the history.")]


@command(app, "show")
def show(
    session: Session,
    alias: Annotated[str, typer.Argument(help="One alias; empty: all of them.")] = "",
    history: Annotated[bool, typer.Option("--history", help="Earlier generations, too.")] = False,
) -> None:
    """Show what aliases point at."""
    with session.operator_channel() as channel:
        stub = RolloutServiceStub(channel)
        metadata = session.metadata("operator")
        if alias:
            one = stub.GetRollout(
                pb.GetRolloutRequest(alias=alias, with_history=history),
                metadata=metadata,
                timeout=session.timeout_s,
            )
            session.out.document(as_dict(one))
            rollouts = [one.rollout, *one.history]
        else:
            all_of_them = stub.ListRollouts(
                pb.ListRolloutsRequest(), metadata=metadata, timeout=session.timeout_s
            )
            session.out.document(as_dict(all_of_them))
            rollouts = list(all_of_them.rollouts)
    rows = [
        (item.alias, item.generation, _targets(item), moment(item.committed_at), item.principal, item.reason)
        for item in rollouts
    ]
    session.out.table(("alias", "generation", "versions", "since", "by", "reason"), rows, empty="No aliases.")
    for item in rollouts:
        if item.HasField("canary"):
            session.out.say(f"{escape(item.alias)}: {escape(_progress(item.canary))}")


@command(app, "set")
def set_rollout(
    session: Session,
    alias: AliasName,
    versions: Annotated[list[str], typer.Argument(help="A version, or several as VERSION=PERCENT.")],
    expected_generation: Expected = None,
    reason: Reason = "",
    canary: Annotated[
        bool, typer.Option("--canary", help="Go there step by step, and back by itself when it fails.")
    ] = False,
    steps: Annotated[
        str, typer.Option(help="Percent of callers at each step, the last one 100.", rich_help_panel=_CANARY)
    ] = "1,10,50,100",
    step_seconds: Annotated[
        float, typer.Option(min=0, help="Least time at each step.", rich_help_panel=_CANARY)
    ] = 60.0,
    min_requests: Annotated[
        int,
        typer.Option(min=0, help="Least requests of the version at each step.", rich_help_panel=_CANARY),
    ] = 20,
    max_error_rate: Annotated[
        float,
        typer.Option(min=0, max=1, help="Share of failures that puts it back.", rich_help_panel=_CANARY),
    ] = 0.05,
    max_error_increase: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            help="Also put it back when its share is so much above the earlier version's.",
            rich_help_panel=_CANARY,
        ),
    ] = None,
) -> None:
    """Point an alias at a version, on all replicas at once, without disturbing a running request."""
    targets = [_target(text) for text in versions]
    plan = pb.Canary(
        steps=_steps(steps),
        step_duration=Duration(seconds=int(step_seconds), nanos=round(step_seconds % 1 * 1e9)),
        min_requests=min_requests,
        max_error_rate=max_error_rate,
        max_error_increase=max_error_increase,
    )
    with session.operator_channel() as channel:
        stub = RolloutServiceStub(channel)
        response = stub.SetRollout(
            pb.SetRolloutRequest(
                alias=alias,
                targets=targets,
                expected_generation=_generation(stub, session, alias, expected_generation),
                reason=reason,
                timeout=Duration(seconds=int(session.timeout_s)),
                canary=plan if canary else None,
            ),
            metadata=session.metadata("operator"),
            timeout=session.timeout_s + 5,
        )
    _report(session, response)


@command(app, "rollback")
def rollback(
    session: Session,
    alias: AliasName,
    to_version: Annotated[
        str, typer.Option("--to", help="Version to go back to; empty: the newest that meets the floor.")
    ] = "",
    expected_generation: Expected = None,
    reason: Reason = "",
) -> None:
    """Point an alias back at an earlier version that meets the erasure floor."""
    with session.operator_channel() as channel:
        stub = RolloutServiceStub(channel)
        response = stub.Rollback(
            pb.RollbackRequest(
                alias=alias,
                expected_generation=_generation(stub, session, alias, expected_generation),
                reason=reason,
                to_version=to_version,
                timeout=Duration(seconds=int(session.timeout_s)),
            ),
            metadata=session.metadata("operator"),
            timeout=session.timeout_s + 5,
        )
    _report(session, response)


@command(app, "watch")
def watch(
    session: Session,
    alias: Annotated[str, typer.Argument(help="One alias; empty: all of them.")] = "",
    after: Annotated[int, typer.Option(min=0, help="Resume after this event.")] = 0,
) -> None:
    """Follow rollout changes until Ctrl-C."""
    with session.operator_channel() as channel:
        responses = RolloutServiceStub(channel).WatchRollouts(
            pb.WatchRolloutsRequest(alias=alias, after_seq=after), metadata=session.metadata("operator")
        )
        for response in responses:
            event = response.event
            session.out.line(as_dict(event))
            facts = ", ".join(f"{key}={value}" for key, value in as_dict(event)["data"].items())
            session.out.say(
                f"[dim]{moment(event.at)}[/] {escape(event.topic)} [bold]{event.kind}[/] {escape(facts)}"
            )


def _generation(stub: RolloutServiceStub, session: Session, alias: str, expected: int | None) -> int:
    if expected is not None:
        return expected
    listed = stub.ListRollouts(
        pb.ListRolloutsRequest(), metadata=session.metadata("operator"), timeout=session.timeout_s
    )
    return next((item.generation for item in listed.rollouts if item.alias == alias), 0)


def _target(text: str) -> pb.Target:
    version, mark, share = text.partition("=")
    if mark and not share.isdigit():
        raise InvalidRequest.of("versions", f"{text!r} is not VERSION=PERCENT with a whole number of percent")
    return pb.Target(version=version, weight=int(share) if mark else 0)


def _steps(text: str) -> list[int]:
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdigit() and len(part) <= 3 for part in parts):
        raise InvalidRequest.of(
            "steps", f"{text!r} is not whole percents with commas between, as 1,10,50,100"
        )
    return [int(part) for part in parts]


def _progress(canary: pb.CanaryProgress) -> str:
    state = enum_word(pb.CanaryState.DESCRIPTOR, canary.state).replace("_", " ")
    told, stable = canary.version_outcomes, canary.stable_outcomes
    return (
        f"canary of {short(canary.version)} {state}: {canary.detail}; at this step {told.failures} of "
        f"{told.requests} requests failed, and {stable.failures} of {stable.requests} of the version before"
    )


def _targets(rollout: pb.Rollout) -> str:
    if len(rollout.targets) == 1:
        return short(rollout.targets[0].version)
    return ", ".join(f"{short(target.version)} {target.weight} %" for target in rollout.targets)


def _report(session: Session, response: pb.SetRolloutResponse | pb.RollbackResponse) -> None:
    session.out.document(as_dict(response))
    rollout = response.rollout
    session.out.say(
        f"[green]✓[/] {escape(rollout.alias)} → {escape(_targets(rollout))}, "
        f"generation {rollout.generation}, confirmed everywhere after {response.flip_ms:.0f} ms"
    )
    if rollout.HasField("canary"):
        session.out.say(escape(_progress(rollout.canary)))
