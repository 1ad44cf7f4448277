"""`expunge forget FILE`: ask for an erasure."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from expunge.cli.erasure import follow
from expunge.cli.messages import as_dict, enum_word, moment
from expunge.cli.request_files import read_erasure
from expunge.cli.session import Session, command
from expunge.rpc.operator.v1 import erasure_pb2 as pb
from expunge.rpc.operator.v1.erasure_pb2_grpc import ErasureServiceStub

command_app = typer.Typer()


@command(command_app, "forget")
def forget(
    session: Session,
    file: Annotated[
        Path, typer.Argument(help=".yaml, .json or .jsonl: subjects, facts, retain, ground, due_at.")
    ],
    watch: Annotated[bool, typer.Option("--watch", help="Follow it until it is closed.")] = False,
) -> None:
    """Make the served model forget the facts in FILE, while it serves."""
    request = read_erasure(file)
    with session.operator_channel() as channel:
        response = ErasureServiceStub(channel).CreateErasure(
            request, metadata=session.metadata("operator"), timeout=session.timeout_s
        )
    erasure = response.erasure
    if not watch:
        session.out.document(as_dict(response))
    state = enum_word(pb.ErasureState.DESCRIPTOR, erasure.state)
    session.out.say(
        f"[green]✓[/] erasure [bold]{erasure.id}[/] is {state}: {erasure.fact_count} facts, "
        f"due {moment(erasure.due_at)}; prompts about them are refused until the model has forgotten them"
    )
    if watch:
        follow(session, erasure.id)
    else:
        session.out.say(f"[dim]Follow it: expunge erasure watch {erasure.id}[/]")
