"""The thread that runs the step loop, and the way in."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable
from concurrent.futures import Future

from expunge.errors import ExpungeError, Unavailable
from expunge.inference.observer import EngineObserver, Unobserved
from expunge.inference.step_loop import StepLoop
from expunge.inference.task import Task
from expunge.observability.logging import get_logger

_log = get_logger()


class EngineThread:
    """Steps the loop while there is work, and sleeps while there is none; `observer` is told of each step."""

    def __init__(self, loop: StepLoop, observer: EngineObserver | None = None) -> None:
        self._loop = loop
        self._observer = observer or Unobserved()
        self._wake = threading.Condition()
        self._calls: list[tuple[Callable[[], None], Future[None]]] = []
        self._is_stopping = False
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)

    @property
    def is_alive(self) -> bool:
        return self._thread.is_alive()

    @property
    def is_stopping(self) -> bool:
        return self._is_stopping

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Stop after the step that runs now, and wait for that."""
        with self._wake:
            self._is_stopping = True
            self._wake.notify()
        if self._thread.is_alive():
            self._thread.join()

    def submit(self, task: Task) -> None:
        """Queue `task`.

        Raises:
            Overloaded: the queue is full.
            Unavailable: the engine is stopping.
        """
        with self._wake:
            self._refuse_when_stopping()
            self._loop.waiting.put(task)
            self._wake.notify()

    def call(self, function: Callable[[], None]) -> Future[None]:
        """Run `function` in the thread, between two steps.

        Raises:
            Unavailable: the engine is stopping.
        """
        done: Future[None] = Future()
        with self._wake:
            self._refuse_when_stopping()
            self._calls.append((function, done))
            self._wake.notify()
        return done

    def _refuse_when_stopping(self) -> None:
        if self._is_stopping:
            raise Unavailable("this replica is stopping; ask another", retry_after_s=1.0)

    def _run(self) -> None:
        error: ExpungeError = Unavailable("this replica has stopped; ask another", retry_after_s=1.0)
        try:
            while self._wait_for_work():
                self._make_calls()
                if self._loop.has_work:
                    self._step()
        except Exception:
            incident = uuid.uuid4().hex
            _log.exception("engine_thread_died", incident=incident)
            error = Unavailable(f"this replica failed and restarts; incident {incident}", retry_after_s=1.0)
        with self._wake:
            self._is_stopping = True
            calls, self._calls = self._calls, []
        self._loop.fail_all(error)
        for _, done in calls:
            if done.set_running_or_notify_cancel():
                done.set_exception(error)

    def _step(self) -> None:
        rows, started = self._loop.stats().running, time.perf_counter()
        self._loop.step()
        self._observer.step_taken(time.perf_counter() - started, rows)

    def _wait_for_work(self) -> bool:
        with self._wake:
            self._wake.wait_for(lambda: self._is_stopping or self._calls or self._loop.has_work)
            return not self._is_stopping

    def _make_calls(self) -> None:
        with self._wake:
            calls, self._calls = self._calls, []
        for function, done in calls:
            if not done.set_running_or_notify_cancel():
                continue  # whoever asked has gone
            try:
                function()
            except Exception as error:
                done.set_exception(error)
            else:
                done.set_result(None)
