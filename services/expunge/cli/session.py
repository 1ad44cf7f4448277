"""One command's link to the service: where it is, with which token, and what it prints.

`@command(app)` gives every command the same options (`--json`, addresses, token, state folder, time limit)
and turns errors into a sentence and an exit code. The wrapped function takes a `Session` first.
"""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import grpc
import typer

from expunge.cli import failures
from expunge.cli.output import Output
from expunge.config import read_settings
from expunge.errors import ConfigError, ExpungeError
from expunge.gateway.service_file import ServiceFile, read_credential

CHANNEL_OPTIONS = (
    ("grpc.max_receive_message_length", 16 * 2**20),
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_permit_without_calls", 1),
)

Metadata = tuple[tuple[str, str], ...]


class Session:
    """Addresses, credentials and output of one command.

    An address is, in this order: the option, its environment variable, what the service on the state folder
    wrote, the default port on this machine. A token is the option, EXPUNGE_TOKEN, or the one of the role that
    the command needs.

    Attributes:
        has_address: an address was given, by option or environment.
    """

    def __init__(
        self,
        *,
        as_json: bool = False,
        inference_address: str = "",
        operator_address: str = "",
        token: str = "",
        state_dir: Path | None = None,
        timeout_s: float = 60.0,
    ) -> None:
        settings = read_settings()
        self.state = state_dir.expanduser() if state_dir else settings.state
        self.out = Output(as_json=as_json)
        self.timeout_s = timeout_s
        self._token = token
        self.has_address = bool(inference_address)
        running = ServiceFile.read(self.state)
        self.inference_address = inference_address or (
            running.inference if running else f"{settings.host}:{settings.inference_port}"
        )
        self.operator_address = operator_address or (
            running.operator if running else f"{settings.host}:{settings.operator_port}"
        )

    @contextmanager
    def inference_channel(self) -> Iterator[grpc.Channel]:
        with grpc.insecure_channel(self.inference_address, options=CHANNEL_OPTIONS) as channel:
            yield channel

    @contextmanager
    def operator_channel(self) -> Iterator[grpc.Channel]:
        with grpc.insecure_channel(self.operator_address, options=CHANNEL_OPTIONS) as channel:
            yield channel

    def listed(self, call: Callable[..., Any], request: Any) -> Any:
        """The answer to a listing of operators, with the entries of every page."""
        whole = None
        while whole is None or request.page_token:
            page = call(request, metadata=self.metadata("operator"), timeout=self.timeout_s)
            request.page_token = page.next_page_token
            if whole is None:
                whole = page
            else:
                whole.MergeFrom(page)
        whole.next_page_token = ""
        return whole

    def metadata(self, role: str) -> Metadata:
        """The call metadata that carries the token for `role`; empty when there is none."""
        token = self._token or read_credential(self.state, role)
        return (("authorization", f"Bearer {token}"),) if token else ()

    @contextmanager
    def reported_errors(self) -> Iterator[None]:
        """Shows an error as one sentence with its remedy and leaves with its exit code."""
        try:
            yield
        except grpc.RpcError as error:
            failure = failures.of_call(error)
        except ExpungeError as error:
            failure = failures.of_error(error)
        except KeyboardInterrupt:
            self.out.say("\n[dim]Interrupted.[/]")
            raise typer.Exit(failures.ExitCode.INTERRUPTED) from None
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            raise typer.Exit(failures.ExitCode.OK) from None
        else:
            return
        self.out.failure(failure)
        raise typer.Exit(failure.code)


_COMMON: dict[str, Any] = {
    "as_json": Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")],
    "inference_address": Annotated[
        str, typer.Option("--address", envvar="EXPUNGE_ADDRESS", help="host:port of the inference port.")
    ],
    "operator_address": Annotated[
        str,
        typer.Option(
            "--operator-address", envvar="EXPUNGE_OPERATOR_ADDRESS", help="host:port of the operator port."
        ),
    ],
    "token": Annotated[
        str, typer.Option(envvar="EXPUNGE_TOKEN", help="Access token; else the local service's own.")
    ],
    "state_dir": Annotated[
        Path | None, typer.Option(help="State folder of a service on this machine (EXPUNGE_STATE_DIR).")
    ],
    "timeout_s": Annotated[float, typer.Option("--timeout", min=0.1, help="Seconds one call may take.")],
}
_DEFAULTS: dict[str, Any] = {
    "as_json": False,
    "inference_address": "",
    "operator_address": "",
    "token": "",
    "state_dir": None,
    "timeout_s": 60.0,
}


def command(
    app: typer.Typer, name: str | None = None
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Registers a function as a command of `app` and gives it the options every command has."""

    def register(function: Callable[..., None]) -> Callable[..., None]:
        own = list(inspect.signature(function, eval_str=True).parameters.values())[1:]

        @functools.wraps(function)
        def run(**values: Any) -> None:
            shared = {key: values.pop(key) for key in _COMMON}
            try:
                session = Session(**shared)
            except ConfigError as error:
                failure = failures.of_error(error)
                Output(as_json=shared["as_json"]).failure(failure)
                raise typer.Exit(failure.code) from None
            with session.reported_errors():
                function(session, **values)

        common = [
            inspect.Parameter(
                key, inspect.Parameter.KEYWORD_ONLY, default=_DEFAULTS[key], annotation=annotation
            )
            for key, annotation in _COMMON.items()
        ]
        named = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in own]
        run.__signature__ = inspect.Signature([*named, *common])  # type: ignore[attr-defined]
        run.__annotations__ = {item.name: item.annotation for item in [*named, *common]}
        del run.__wrapped__
        return app.command(name)(run)

    return register
