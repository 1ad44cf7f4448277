"""`expunge audit`: probe a version against erasures."""

from __future__ import annotations

import secrets
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from expunge.cli.failures import ExitCode
from expunge.cli.messages import as_dict, enum_word, short
from expunge.cli.progress import shown
from expunge.cli.session import Session, command
from expunge.config import read_settings
from expunge.rpc.operator.v1 import audit_pb2 as pb
from expunge.rpc.operator.v1 import training_pb2
from expunge.rpc.operator.v1.audit_pb2_grpc import AuditServiceStub

app = typer.Typer(help="Audits: probes and metrics of one version, judged by gates.", no_args_is_help=True)


@command(app, "run")
def run(
    session: Session,
    version: Annotated[str, typer.Argument(help="Version id or name.")],
    erasure: Annotated[
        list[str] | None, typer.Option(help="Erasure to audit against; none: all on the floor.")
    ] = None,
    request_id: Annotated[str, typer.Option(help="Makes the call safe to repeat; empty: a new one.")] = "",
) -> None:
    """Audit a version and wait for the verdict."""
    metadata = session.metadata("operator")
    request = pb.CreateAuditRequest(
        request_id=request_id or f"cli-{secrets.token_hex(8)}", version=version, erasure_ids=erasure or ()
    )
    with session.operator_channel() as channel:
        stub = AuditServiceStub(channel)
        audit = stub.CreateAudit(request, metadata=metadata, timeout=session.timeout_s).audit
        with shown(session.out, "auditing") as progress:
            for response in stub.WatchAudit(pb.WatchAuditRequest(audit_id=audit.id), metadata=metadata):
                progress.show(response.event)
        audit = stub.GetAudit(
            pb.GetAuditRequest(audit_id=audit.id), metadata=metadata, timeout=session.timeout_s
        ).audit
    session.out.line(as_dict(audit))
    _verdict(session, audit)
    if not audit.passed:
        raise typer.Exit(ExitCode.FAILED)


@command(app, "show")
def show(session: Session, audit_id: Annotated[str, typer.Argument(help="Id of the audit.")]) -> None:
    """Show one audit with its figures."""
    with session.operator_channel() as channel:
        audit = (
            AuditServiceStub(channel)
            .GetAudit(
                pb.GetAuditRequest(audit_id=audit_id),
                metadata=session.metadata("operator"),
                timeout=session.timeout_s,
            )
            .audit
        )
    session.out.document(as_dict(audit))
    _verdict(session, audit)


@command(app, "harness")
def harness(
    session: Session,
    url: Annotated[
        str, typer.Option(help="Of a gateway's HTTP port, to ask what it serves; empty: a local model.")
    ] = "",
    alias: Annotated[str, typer.Option(help="What to ask there.")] = "default",
    model: Annotated[
        str, typer.Option(help="Of the local model, or of the tokenizer: as the setting of that name.")
    ] = "",
    adapter: Annotated[Path | None, typer.Option(help="Folder of an adapter for the local model.")] = None,
    task: Annotated[
        list[str] | None, typer.Option(help="Of the harness; none: the project's own, which need no hub.")
    ] = None,
    shots: Annotated[int, typer.Option(min=0, help="Solved examples before each question.")] = 0,
    limit: Annotated[int, typer.Option(min=0, help="Items of each task; 0: all.")] = 0,
    python: Annotated[
        Path, typer.Option(help="Interpreter that has lm-evaluation-harness (expunge[lm-eval]).")
    ] = Path(sys.executable),
) -> None:
    """Run lm-evaluation-harness on a served or a local model."""
    from expunge.auditing.ability.harness import OWN, LocalFolder, ServedModel, run_harness
    from expunge.models.source import resolve_folder

    settings = read_settings()
    folder = resolve_folder(model or settings.model, settings.cache)
    token = "".join(value for key, value in session.metadata("client") if key == "authorization")
    target: ServedModel | LocalFolder = LocalFolder(folder, adapter)
    if url:
        target = ServedModel(url, alias, folder, token.removeprefix("Bearer "))
    found = run_harness(target, task or OWN, shots=shots, limit=limit or None, python=python)
    session.out.document({name: figure.to_dict() for name, figure in found.items()})
    rows = [
        (name, figure.n, _figure(figure.value), f"{_figure(figure.lower)} to {_figure(figure.upper)}")
        for name, figure in found.items()
    ]
    session.out.table(
        ("task", "items", "accuracy", "95 %"), rows, empty="None of the tasks tells an accuracy."
    )


def _verdict(session: Session, audit: pb.Audit) -> None:
    state = enum_word(training_pb2.JobState.DESCRIPTOR, audit.state)
    if audit.HasField("passed"):
        word = "[green]passed[/]" if audit.passed else "[red]did not pass[/]"
    else:
        word = f"is {state} {escape(audit.error)}"
    session.out.say(f"audit {escape(audit.id)} of {short(audit.version)}: {word}")
    reports: Mapping[str, Any] = as_dict(audit.reports)
    for erasure_id, report in reports.items():
        gates = report.get("gates", []) if isinstance(report, Mapping) else []
        rows = [_gate_row(gate) for gate in gates if isinstance(gate, Mapping)]
        if rows:
            session.out.say(f"\n[bold]{escape(erasure_id)}[/]")
            session.out.table(("gate", "", "value", "limit", "controls", ""), rows, empty="")
        figures = report.get("figures", []) if isinstance(report, Mapping) else []
        if figures:
            session.out.say("")
            session.out.table(
                ("figure", "erased facts", "controls", "before"),
                [
                    (one["name"], *(_share(one[key]) for key in ("erased", "control", "baseline")))
                    for one in figures
                ],
                empty="",
            )
        ability = report.get("ability") if isinstance(report, Mapping) else None
        if ability:
            rows = [_task_row(task) for task in ability["tasks"]]
            session.out.table(("general ability", "before", "now", "change", "95 %"), rows, empty="")


def _gate_row(gate: Mapping[str, Any]) -> tuple[object, ...]:
    mark = "✓" if gate.get("passed") else "✗"
    force = "blocking" if gate.get("blocking") else "reported"
    value, limit = (_figure(gate.get(name)) for name in ("value", "threshold"))
    return (gate.get("name", ""), mark, value, limit, _share(gate.get("control")), force)


def _share(share: Mapping[str, Any] | None) -> str:
    """A rate with its interval and what it rests on."""
    if not share:
        return "-"
    return f"{share['rate']:.3f} ({share['lower']:.3f}-{share['upper']:.3f}) of {share['n']:.0f}"


def _task_row(task: Mapping[str, Any]) -> tuple[object, ...]:
    change = task["change"]
    interval = f"{_figure(change['lower'])} to {_figure(change['upper'])}"
    values = (_figure(task[key]["value"]) for key in ("before", "after", "change"))
    return (f"{task['task']} ({change['n']:g})", *values, interval)


def _figure(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str("" if value is None else value)
