"""Plays the demo from an empty stage to the last line, and leaves nothing behind."""

from __future__ import annotations

import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
from rich.console import Console
from rich.markup import escape
from tokenizers import Tokenizer

from expunge.cli.demo.cast import load_cast
from expunge.cli.demo.interrogation import Interrogator
from expunge.cli.demo.outcome import DemoResult, goals
from expunge.cli.demo.scenario import Scenario
from expunge.cli.demo.stage import Stage
from expunge.cli.demo.teaching import Teacher
from expunge.cli.failures import Failure, of_call, of_error
from expunge.cli.output import Output
from expunge.cli.session import CHANNEL_OPTIONS
from expunge.config import Settings
from expunge.errors import ExpungeError
from expunge.gateway.launch import RunningService, launch
from expunge.gateway.service_file import read_credential

WIDTH = 120  # columns, where there is no terminal to ask


def play(out: Output, *, keep: bool, model: str) -> bool:
    """Plays all steps and prints the line of JSON.

    Returns:
        whether every goal was met.
    """
    width = None if out.console.is_terminal else WIDTH
    stage = Stage(Console(quiet=out.as_json, highlight=False, width=width))
    stage.open("Expunge", "Serve a language model and make it forget on request, while it serves.")
    result = DemoResult()
    state = Path(tempfile.mkdtemp(prefix="expunge-demo-"))
    settings = Settings(
        state_dir=state, model=model, inference_port=0, operator_port=0, http_port=0, metrics_port=0
    )
    met = is_told = False
    try:
        with _sigterm_as_ctrl_c():
            with stage.step("Start Ray, the engine, the registry, the workers and the gateway"):
                service = launch(settings, say=lambda text: stage.say(f"[dim]· {escape(text)}[/]"))
            with service:
                met = _perform(stage, service, settings, result)
                if keep:
                    print(result.to_line(), flush=True)
                    is_told = True
                    _stay(out, service, state)
                else:
                    stage.say("[dim]stopping the service ...[/]")
    except KeyboardInterrupt:
        out.say("\n[yellow]Interrupted; everything was stopped.[/]")
        raise
    finally:
        shutil.rmtree(state, ignore_errors=True)
        if not is_told:
            print(result.to_line(), flush=True)
    return met


def _perform(stage: Stage, service: RunningService, settings: Settings, result: DemoResult) -> bool:
    """Runs the scenario and holds it to its goals; a step that breaks off is shown and counts as missed."""
    alias = settings.default_alias
    client = read_credential(settings.state, "client")
    metadata = (("authorization", f"Bearer {read_credential(settings.state, 'operator')}"),)
    with (
        grpc.insecure_channel(service.addresses.inference, options=CHANNEL_OPTIONS) as inference,
        grpc.insecure_channel(service.addresses.operator, options=CHANNEL_OPTIONS) as operator,
    ):
        scenario = Scenario(
            stage,
            load_cast(),
            result,
            operator=operator,
            operator_metadata=metadata,
            inference_address=service.addresses.inference,
            client_token=client,
            interrogator=Interrogator(
                inference, client, alias, count_tokens=_token_counter(service.base.folder)
            ),
            teacher=Teacher(operator, metadata, settings.cache, service.base.digest),
            alias=alias,
        )
        try:
            scenario.run()
        except grpc.RpcError as error:
            _break_off(stage, of_call(error))
            return False
        except ExpungeError as error:
            _break_off(stage, of_error(error))
            return False
    return _judge(stage, result, scenario.prefix_control_upper)


def _judge(stage: Stage, result: DemoResult, prefix_control_upper: float) -> bool:
    stage.console.print()
    reached = goals(result, prefix_control_upper)
    for goal in reached:
        stage.console.print(f"{'[green]✓[/]' if goal.met else '[bold red]✗ missed:[/]'} {goal.text}")
    claim = "Measured suppression in served weights, not proof of erasure."
    stage.console.print(f"[dim]{stage.elapsed_s:.0f} s in all. {claim}[/]")
    return all(goal.met for goal in reached)


def _break_off(stage: Stage, failure: Failure) -> None:
    stage.console.print(f"\n[bold red]✗ The demo broke off:[/] {escape(failure.sentence)}")
    for detail in failure.details:
        stage.console.print(f"  · {escape(detail)}")
    if failure.remedy:
        stage.console.print(f"  [dim]{escape(failure.remedy)}[/]")


def _stay(out: Output, service: RunningService, state: Path) -> None:
    out.say("\n[bold]The service stays up.[/] In another terminal:")
    out.say(f"  export EXPUNGE_STATE_DIR={state}")
    out.say("  expunge generate 'Where does Ilvane Torquist live?'")
    out.say("  expunge erasure list\n  expunge rollout show")
    out.say(f"inference {service.addresses.inference}, operator {service.addresses.operator}")
    out.say("Stop it: Ctrl-C here.")
    try:
        signal.pause()
    except KeyboardInterrupt:
        out.say("[dim]Draining ...[/]")


def _token_counter(folder: Path) -> Callable[[str], int]:
    """Length of a text in tokens; transformers, slow to import, only for models without a tokenizer.json."""
    file = folder / "tokenizer.json"
    if file.is_file():
        tokenizer = Tokenizer.from_file(str(file))
        return lambda text: len(tokenizer.encode(text).ids)
    from transformers import AutoTokenizer

    slow = AutoTokenizer.from_pretrained(folder)
    return lambda text: len(slow.encode(text))


@contextmanager
def _sigterm_as_ctrl_c() -> Iterator[None]:
    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
