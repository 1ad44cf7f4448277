"""`expunge serve`: the service on this machine until Ctrl-C, then a clean drain."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from expunge.cli.output import Output
from expunge.cli.session import Session, command
from expunge.config import Settings, read_settings

command_app = typer.Typer()


@command(command_app, "serve")
def serve(
    session: Session,
    model: Annotated[
        str, typer.Option(help="'bundled', a hub id, a folder of safetensors, or a .gguf file.")
    ] = "",
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "",
    inference_port: Annotated[int | None, typer.Option(min=0, max=65535, help="0: any free port.")] = None,
    operator_port: Annotated[int | None, typer.Option(min=0, max=65535, help="0: any free port.")] = None,
    http_port: Annotated[int | None, typer.Option(min=0, max=65535, help="0: any free port.")] = None,
    metrics_port: Annotated[int | None, typer.Option(min=0, max=65535, help="0: any free port.")] = None,
    engine_replicas: Annotated[int | None, typer.Option(min=1, help="Engine replicas.")] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Workers that train and audit.")] = None,
    ray_address: Annotated[str, typer.Option(help="Ray cluster to join; 'local': start one.")] = "local",
) -> None:
    """Run the service until Ctrl-C. Every other setting is an environment variable, EXPUNGE_<NAME>."""
    chosen: dict[str, Any] = {
        "model": model or None,
        "host": host or None,
        "inference_port": inference_port,
        "operator_port": operator_port,
        "http_port": http_port,
        "metrics_port": metrics_port,
        "engine_replicas": engine_replicas,
        "workers": workers,
        "state_dir": session.state,
    }
    settings = settings_from(chosen)
    from expunge.gateway.launch import launch  # imports torch and Ray, which no other command needs

    with stopping_signals() as stopped:
        session.out.say("[dim]Starting ...[/]")
        with launch(settings, ray_address=ray_address, say=_sayer(session.out)) as service:
            session.out.line({"state": str(settings.state), **service.addresses.__dict__})
            _announce(session.out, settings.state, service.addresses.inference, service.addresses.operator)
            stopped.wait()
            session.out.say("[dim]Draining ...[/]")
    session.out.say("[green]✓[/] Stopped; nothing is left running.")


def settings_from(chosen: dict[str, Any]) -> Settings:
    """Settings from the environment with the given ones (where not None) on top.

    Raises:
        ConfigError: naming every setting that can't work.
    """
    return read_settings(**{name: value for name, value in chosen.items() if value is not None})


@contextmanager
def stopping_signals() -> Iterator[threading.Event]:
    """Sets the event on the first Ctrl-C or SIGTERM; a second Ctrl-C interrupts the hard way."""
    stopped = threading.Event()

    def on_signal(number: int, frame: object) -> None:
        if stopped.is_set() and number == signal.SIGINT:
            raise KeyboardInterrupt
        stopped.set()

    before = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stopped
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _sayer(out: Output) -> Any:
    return lambda text: out.say(f"  [dim]·[/] {escape(text)}")


def _announce(out: Output, state: Path, inference: str, operator: str) -> None:
    out.say(f"[green]✓[/] [bold]Serving[/] on {inference} (inference) and {operator} (operator)")
    out.say(
        f"  tokens are in {escape(str(state / 'credentials.yaml'))}; commands on this machine find them there"
    )
    out.say("  try: [bold]expunge generate 'What is the capital of France?'[/]   stop: Ctrl-C")
