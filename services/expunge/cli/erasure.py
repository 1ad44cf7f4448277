"""`expunge erasure`: list, show, watch and cancel erasures, and read their reports."""

from __future__ import annotations

import json
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markdown import Markdown
from rich.markup import escape

from expunge.cli.failures import ExitCode
from expunge.cli.messages import as_dict, enum_number, enum_word, enum_words, moment, short
from expunge.cli.progress import figures, shown
from expunge.cli.request_files import read_facts
from expunge.cli.session import Session, command
from expunge.errors import ConfigError, InvalidRequest
from expunge.facts import Fact
from expunge.rpc.operator.v1 import erasure_pb2 as pb
from expunge.rpc.operator.v1.erasure_pb2_grpc import ErasureServiceStub

STATES = pb.ErasureState.DESCRIPTOR

app = typer.Typer(help="Erasures: requests to forget, and their life.", no_args_is_help=True)

ErasureId = Annotated[str, typer.Argument(help="Id of the erasure.")]


@command(app, "list")
def list_erasures(
    session: Session,
    state: Annotated[
        list[str] | None, typer.Option(help=f"Only these: {', '.join(enum_words(STATES))}.")
    ] = None,
) -> None:
    """List erasures, newest first."""
    request = pb.ListErasuresRequest(states=[_state_number(word) for word in state or ()])
    with session.operator_channel() as channel:
        response = session.listed(ErasureServiceStub(channel).ListErasures, request)
    session.out.document(as_dict(response))
    rows = [
        (
            item.id,
            enum_word(STATES, item.state),
            item.fact_count,
            moment(item.created_at),
            moment(item.due_at),
            item.detail,
        )
        for item in response.erasures
    ]
    session.out.table(("erasure", "state", "facts", "accepted", "due", "detail"), rows, empty="No erasures.")


@command(app, "show")
def show(session: Session, erasure_id: ErasureId) -> None:
    """Show one erasure and when it entered each state."""
    with session.operator_channel() as channel:
        response = ErasureServiceStub(channel).GetErasure(
            pb.GetErasureRequest(erasure_id=erasure_id),
            metadata=session.metadata("operator"),
            timeout=session.timeout_s,
        )
    session.out.document(as_dict(response))
    item = response.erasure
    session.out.fields(
        {
            "erasure": item.id,
            "state": enum_word(STATES, item.state),
            "facts": item.fact_count,
            "aliases": ", ".join(item.aliases),
            "version": short(item.version) or "-",
            "round": item.round,
            "due": moment(item.due_at),
            "ground": item.ground or "-",
            "detail": item.detail or "-",
        }
    )
    rows = [
        (f"{step.seconds:8.1f} s", enum_word(STATES, step.state), step.detail, figures(as_dict(step.data)))
        for step in response.transitions
    ]
    session.out.say("")
    session.out.table(("after", "state", "detail", "figures"), rows, empty="No transitions.")


@command(app, "watch")
def watch(session: Session, erasure_id: ErasureId) -> None:
    """Follow one erasure until it is closed, cancelled or failed."""
    follow(session, erasure_id)


@command(app, "cancel")
def cancel(
    session: Session,
    erasure_id: ErasureId,
    reason: Annotated[str, typer.Option(help="Why; kept with the erasure.")],
) -> None:
    """Cancel an erasure that is not live yet; its suppression ends."""
    with session.operator_channel() as channel:
        response = ErasureServiceStub(channel).CancelErasure(
            pb.CancelErasureRequest(erasure_id=erasure_id, reason=reason),
            metadata=session.metadata("operator"),
            timeout=session.timeout_s,
        )
    session.out.document(as_dict(response))
    session.out.say(
        f"[green]✓[/] erasure {escape(erasure_id)} is cancelled; prompts about it are answered again"
    )


class Format(StrEnum):
    """How a report is written."""

    HTML = "html"
    JSON = "json"
    MD = "md"


@command(app, "report")
def report(
    session: Session,
    erasure_id: ErasureId,
    form: Annotated[
        Format, typer.Option("--format", help="html: one page with figures, which needs nothing else.")
    ] = Format.MD,
    output: Annotated[
        Path | None,
        typer.Option(help="File to write; without it html goes to ID.html, the others are printed."),
    ] = None,
    reveal: Annotated[
        Path | None,
        typer.Option(
            help="Show the text of the facts in the page, read from this file as given to `forget`."
        ),
    ] = None,
) -> None:
    """Read the report of an erasure that has closed or failed. It is unsigned so far."""
    if reveal and form is not Format.HTML:
        raise InvalidRequest.of("--reveal", "is for --format html; the other forms hold ids alone")
    with session.operator_channel() as channel:
        response = ErasureServiceStub(channel).GetReport(
            pb.GetReportRequest(erasure_id=erasure_id),
            metadata=session.metadata("operator"),
            timeout=session.timeout_s,
        )
    found = as_dict(response)["report"]
    if form is Format.HTML:
        output = output or Path(f"{erasure_id}.html")
        text = html_page(found, read_facts(reveal) if reveal else {})
    else:
        text = (
            response.markdown if form is Format.MD else json.dumps(found, ensure_ascii=False, indent=2) + "\n"
        )
    if output:
        output.write_text(text, encoding="utf-8")
        session.out.document({"file": str(output)})
        session.out.say(f"[green]✓[/] wrote {escape(str(output))}")
    elif session.out.as_json or form is Format.JSON:
        print(json.dumps(found, ensure_ascii=False, indent=2), flush=True)
    elif session.out.console.is_terminal:
        session.out.console.print(Markdown(text))
    else:
        session.out.say(escape(text))


def html_page(report: Mapping[str, Any], revealed: Mapping[str, Fact]) -> str:
    """The report as a page.

    Raises:
        ConfigError: matplotlib is not installed.
    """
    try:
        from expunge.erasures.report_page.page import render  # what draws takes a second to load
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"the page needs {error.name}, which is not installed: pip install 'expunge[report]', or use "
            "--format md"
        ) from None
    return render(report, revealed)


def follow(session: Session, erasure_id: str) -> None:
    """Shows an erasure's events until its final state.

    Raises:
        typer.Exit: with a failure code when it ended otherwise than closed.
    """
    state = pb.ERASURE_STATE_UNSPECIFIED
    with session.operator_channel() as channel, shown(session.out, f"erasure {erasure_id}") as progress:
        responses = ErasureServiceStub(channel).WatchErasure(
            pb.WatchErasureRequest(erasure_id=erasure_id), metadata=session.metadata("operator")
        )
        for response in responses:
            progress.show(response.event)
            state = response.state
    word = enum_word(STATES, state)
    if state != pb.ERASURE_STATE_CLOSED:
        session.out.say(
            f"[red]✗[/] erasure {escape(erasure_id)} ended {word}; see `expunge erasure show {erasure_id}`"
        )
        raise typer.Exit(ExitCode.FAILED)
    session.out.say(
        f"[green]✓[/] erasure {escape(erasure_id)} is closed: `expunge erasure report {escape(erasure_id)}`"
    )


def _state_number(word: str) -> pb.ErasureState.ValueType:
    number = enum_number(STATES, word)
    if number is None:
        raise InvalidRequest.of("--state", f"{json.dumps(word)} is none of {', '.join(enum_words(STATES))}")
    return pb.ErasureState.ValueType(number)
