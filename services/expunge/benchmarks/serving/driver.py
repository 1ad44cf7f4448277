"""A load process as the benchmark sees it: starts it, gives it plans, stops it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from types import TracebackType
from typing import Self

from expunge.benchmarks.serving.load_process import BEGUN, END, READY
from expunge.benchmarks.serving.plan import Plan, Response, Target, responses_from_line
from expunge.errors import Unavailable


class Driver:
    """A running load process; a context manager that leaves no process behind.

    Args:
        target: whom it asks.
        environment: variables on top of this process's own.
    """

    def __init__(self, target: Target, environment: Mapping[str, str] | None = None) -> None:
        self._target = target
        self._environment = {**os.environ, **(environment or {})}

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "expunge.benchmarks.serving.load_process"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=self._environment,
            start_new_session=True,  # Ctrl-C reaches the benchmark, which then stops the load
        )
        try:
            self._send(self._target.to_line())
            while self._receive().strip() != READY:  # what libraries print comes before it
                pass
        except BaseException:
            self._kill()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None and self._process.stdin is not None:
            self._process.stdin.close()
            try:
                self._process.wait(30)
            except subprocess.TimeoutExpired:
                self._kill()
        else:
            self._kill()

    @property
    def pid(self) -> int:
        return self._process.pid

    def run(self, plan: Plan) -> tuple[Response, ...]:
        """Drives one plan to its end.

        Raises:
            Unavailable: the load process ended by itself.
        """
        self._send(plan.to_line())
        return responses_from_line(self._receive())

    def begin(self, plan: Plan) -> None:
        """Drives an endless plan until `end`; returns once all of its streams have begun.

        Raises:
            Unavailable: the load process ended by itself.
        """
        self._send(plan.to_line())
        said = self._receive().strip()
        assert said == BEGUN, said

    def end(self) -> tuple[Response, ...]:
        """Ends the plan that was begun; returns what was answered or refused meanwhile.

        Raises:
            Unavailable: the load process ended by itself.
        """
        self._send(END)
        return responses_from_line(self._receive())

    def _send(self, line: str) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._ended() from None

    def _receive(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise self._ended()
        return line

    def _ended(self) -> Unavailable:
        return Unavailable(
            f"the load process for {self._target.kind} {self._target.address} ended with exit code "
            f"{self._process.wait(30)}; its message is above"
        )

    def _kill(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
