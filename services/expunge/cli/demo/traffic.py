"""The demo's load as the demo sees it: starts its process, collects the responses, stops it."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections import Counter
from dataclasses import replace
from types import TracebackType

from expunge.cli.demo.responses import LoadPlan, Outcome, Response
from expunge.errors import Unavailable


class Traffic:
    """A running load process; a context manager that leaves no process behind."""

    def __init__(self, plan: LoadPlan) -> None:
        self._plan = plan
        self._lock = threading.Lock()
        self._responses: list[Response] = []

    def __enter__(self) -> Traffic:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "expunge.cli.demo.load"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,  # Ctrl-C reaches the demo, which then stops the load
        )
        assert self._process.stdin is not None
        self._process.stdin.write(self._plan.to_line() + "\n")
        self._process.stdin.flush()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.finish()
        elif self._process.poll() is None:
            self._process.kill()
        self._process.wait()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with self._lock:
                self._responses.append(Response.from_line(line))

    def finish(self) -> None:
        """Stops asking and waits for the answers that are still under way.

        Raises:
            Unavailable: the load process ended by itself or did not end.
        """
        assert self._process.stdin is not None
        if not self._process.stdin.closed:
            self._process.stdin.close()
        try:
            code = self._process.wait(self._plan.timeout_s + 10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            raise Unavailable("the load process did not end; its last requests never returned") from None
        self._reader.join()
        if code:
            raise Unavailable(f"the load process ended with exit code {code}; its message is above")

    def wait(self) -> None:
        """Waits until a load that ends by itself (a calibration) has ended."""
        self._reader.join()

    @property
    def responses(self) -> list[Response]:
        with self._lock:
            return list(self._responses)

    def summary(self) -> Counter[Outcome]:
        """How many requests ended in which way so far."""
        return Counter(response.outcome for response in self.responses)


def measure_capacity(plan: LoadPlan, seconds: float) -> tuple[float, float]:
    """What the service can answer when `plan.streams` requests always run.

    Returns:
        requests a second and tokens a second.

    Raises:
        Unavailable: nothing was answered.
    """
    with Traffic(replace(plan, calibrate_s=seconds)) as traffic:
        traffic.wait()
        answered = [item for item in traffic.responses if item.outcome is Outcome.ANSWERED]
    if not answered:
        raise Unavailable("the service answered nothing while its capacity was measured; see its log")
    span = max(item.done for item in answered) - min(item.sent for item in answered)
    return len(answered) / span, sum(item.tokens for item in answered) / span
