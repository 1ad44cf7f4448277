"""The `expunge` command and its groups, each in a file of its own.

Nothing heavy (torch, Ray) is imported before a command needs it.
"""

from __future__ import annotations

import typer

from expunge.cli import adapter, audit, bench, demo_command, erasure, finetune, forget, rollout, serve, text

app = typer.Typer(
    name="expunge",
    help="Serve a language model and make it forget on request, while it serves.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

for single in (
    serve.command_app,
    demo_command.command_app,
    text.command_app,
    forget.command_app,
    finetune.command_app,
):
    app.registered_commands += single.registered_commands
app.add_typer(adapter.app, name="adapter")
app.add_typer(rollout.app, name="rollout")
app.add_typer(erasure.app, name="erasure")
app.add_typer(audit.app, name="audit")
app.add_typer(bench.app, name="bench")
