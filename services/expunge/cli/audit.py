"""`expunge audit`: probe a version against erasures."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Annotated, Any

import typer
from rich.markup import escape

from expunge.cli.failures import ExitCode
from expunge.cli.messages import as_dict, enum_word, short
from expunge.cli.progress import shown
from expunge.cli.session import Session, command
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


def _figure(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str("" if value is None else value)
