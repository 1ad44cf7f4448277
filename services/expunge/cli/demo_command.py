"""`expunge demo`: the product's main job on the bundled model, live in the terminal."""

from __future__ import annotations

from typing import Annotated

import typer

from expunge.cli.failures import ExitCode
from expunge.cli.session import Session, command

command_app = typer.Typer()


@command(command_app, "demo")
def demo(
    session: Session,
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave the service up at the end until Ctrl-C.")
    ] = False,
    model: Annotated[str, typer.Option(help="The model to play it on.")] = "bundled",
) -> None:
    """Teach a model facts, serve it under load, make it forget a person, and check what it still says."""
    from expunge.cli.demo.play import play  # imports torch and Ray

    if not play(session.out, keep=keep, model=model):
        raise typer.Exit(ExitCode.FAILED)
