"""`expunge finetune FILE`: teach facts to an adapter."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from expunge.cli.failures import ExitCode
from expunge.cli.messages import as_dict
from expunge.cli.progress import shown
from expunge.cli.request_files import read_fine_tune
from expunge.cli.session import Session, command
from expunge.rpc.operator.v1 import training_pb2 as pb
from expunge.rpc.operator.v1.training_pb2_grpc import TrainingServiceStub

command_app = typer.Typer()


@command(command_app, "finetune")
def finetune(
    session: Session,
    file: Annotated[
        Path, typer.Argument(help="YAML or JSON with `examples`, or .jsonl of {question, answer}.")
    ],
    name: Annotated[str, typer.Option(help="Name of the version to make; empty: the file's.")] = "",
    parent: Annotated[str, typer.Option(help="Version to go on from; empty: the base.")] = "",
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Follow the job until it ends.")] = True,
) -> None:
    """Teach questions and answers to a new adapter version; no alias points at it yet."""
    request = read_fine_tune(file, name)
    request.parent = parent or request.parent
    with session.operator_channel() as channel:
        stub = TrainingServiceStub(channel)
        metadata = session.metadata("operator")
        job = stub.CreateFineTune(request, metadata=metadata, timeout=session.timeout_s).job
        session.out.say(f"job [bold]{escape(job.id)}[/]: {len(request.examples)} examples")
        if wait:
            with shown(session.out, "teaching") as progress:
                for response in stub.WatchJob(pb.WatchJobRequest(job_id=job.id), metadata=metadata):
                    progress.show(response.event)
            job = stub.GetJob(
                pb.GetJobRequest(job_id=job.id), metadata=metadata, timeout=session.timeout_s
            ).job
    if not wait:
        session.out.document(as_dict(job))
        return
    session.out.line(as_dict(job))
    if job.state != pb.JOB_STATE_SUCCEEDED:
        session.out.say(f"[red]✗[/] job {escape(job.id)} failed: {escape(job.error or 'it was cancelled')}")
        raise typer.Exit(ExitCode.FAILED)
    version = as_dict(job.result)["version"]
    session.out.say(
        f"[green]✓[/] version [bold]{version}[/]; put it live: `expunge rollout set ALIAS {request.name}`"
    )
