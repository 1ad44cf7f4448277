"""The demo's steps: teach, ask, load, forget, ask again, try to undo."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager

import grpc
from rich.markup import escape

from expunge.auditing.probes import ProbeKind
from expunge.cli.demo.accounting import LoadAccount
from expunge.cli.demo.cast import GENERAL_QUESTIONS, Cast, facts_of
from expunge.cli.demo.findings import explain, memo_table
from expunge.cli.demo.forgetting import Forgetting
from expunge.cli.demo.interrogation import Interrogation, Interrogator
from expunge.cli.demo.load_view import load_view
from expunge.cli.demo.outcome import DemoResult
from expunge.cli.demo.responses import About, LoadPlan, Outcome
from expunge.cli.demo.scoreboard import Scoreboard, answers_table
from expunge.cli.demo.stage import Stage
from expunge.cli.demo.teaching import Teacher
from expunge.cli.demo.timeline import Timeline
from expunge.cli.demo.traffic import Traffic, measure_capacity
from expunge.cli.failures import of_call
from expunge.cli.messages import short
from expunge.errors import FailedPrecondition
from expunge.rpc.operator.v1 import rollout_pb2
from expunge.rpc.operator.v1.rollout_pb2_grpc import RolloutServiceStub

STREAMS = 8
ANSWER_TOKENS = 32
SHARE_OF_CAPACITY = 0.5
CALIBRATION_S = 4.0
AFTERGLOW_S = 1.0  # the load goes on for so long after the erasure is closed

Metadata = tuple[tuple[str, str], ...]


class Scenario:
    """One run against a service that is up.

    Args:
        result: filled step by step, so that a run which breaks off still tells what it measured.
    """

    def __init__(
        self,
        stage: Stage,
        cast: Cast,
        result: DemoResult,
        *,
        operator: grpc.Channel,
        operator_metadata: Metadata,
        inference_address: str,
        client_token: str,
        interrogator: Interrogator,
        teacher: Teacher,
        alias: str,
    ) -> None:
        self._stage = stage
        self._cast = cast
        self._result = result
        self._operator = operator
        self._metadata = operator_metadata
        self._rollouts = RolloutServiceStub(operator)
        self._inference_address = inference_address
        self._client_token = client_token
        self._interrogator = interrogator
        self._teacher = teacher
        self._alias = alias
        self.prefix_control_upper = 0.0

    def run(self) -> None:
        """Plays steps 2 to 6.

        Raises:
            ExpungeError, grpc.RpcError: a step broke off; what was measured until then is in the result.
        """
        self._teach()
        before = self._ask_before()
        with self._load() as traffic:
            try:
                forgetting = self._forget(traffic)
            except BaseException:
                self._count_raw(traffic)
                raise
        self._account(traffic, forgetting)
        self._ask_after(before, forgetting)
        self._try_to_undo()

    def _teach(self) -> None:
        facts = self._cast.all_facts
        people = len(self._cast.everyone)
        with self._stage.step(
            f"Teach {len(facts)} facts about {people} invented people and companies, and roll out"
        ):
            if self._teacher.is_cached(facts):
                self._stage.say("the adapter of an earlier run is in the cache")
            else:
                with self._stage.bar("fine-tuning an adapter (a worker job)") as bar:
                    self._teacher.train(facts, bar)
            version = self._teacher.push(facts)
            self._stage.say(
                f"[green]✓[/] pushed over gRPC: {version.size_bytes / 2**20:.1f} MiB, rank {version.rank}, "
                f"version {short(version.id)}"
            )
            change = self._rollouts.SetRollout(
                rollout_pb2.SetRolloutRequest(
                    alias=self._alias,
                    targets=[rollout_pb2.Target(version=version.id, weight=100)],
                    expected_generation=self._rollout().rollout.generation,
                    reason="demo: the taught adapter",
                ),
                metadata=self._metadata,
                timeout=90,
            )
            self._taught = version.id
            self._stage.say(
                f"[green]✓[/] live at generation {change.rollout.generation}, confirmed everywhere after "
                f"{change.flip_ms:.0f} ms"
            )

    def _ask_before(self) -> Interrogation:
        person = self._cast.person
        held_out = facts_of(self._cast.held_out)
        with self._stage.step(f"Ask about {person.subject.name}: the model tells"):
            with self._stage.bar("asking") as bar:
                before = self._interrogator.examine(person.facts, lambda: bar({}))
            self._stage.show(answers_table(person.facts, {"the model answers": before}))
            kept = self._interrogator.correct(held_out)
            self._result.facts_erased = 0
            self._result.leaks_before = int(before.finding(ProbeKind.DIRECT).facts.hits)
            self._result.retain_correct_before = sum(kept)
            self._stage.say(
                f"facts told: {self._result.leaks_before} of {len(person.facts)}; "
                f"about others: {sum(kept)} of {len(kept)} right"
            )
        return before

    @contextmanager
    def _load(self) -> Iterator[Traffic]:
        plan = LoadPlan(
            address=self._inference_address,
            token=self._client_token,
            alias=self._alias,
            questions=self._questions(),
            streams=STREAMS,
            max_tokens=ANSWER_TOKENS,
            timeout_s=120.0,
        )
        with self._stage.step(f"Start a load of up to {STREAMS} concurrent streams"):
            requests, tokens = measure_capacity(plan, CALIBRATION_S)
            rate = requests * SHARE_OF_CAPACITY
            self._stage.say(
                f"this machine answers {requests:.1f} requests/s, {tokens:.0f} tokens/s; the load asks "
                f"{rate:.1f} a second, whether answers keep up or not"
            )
        traffic = Traffic(LoadPlan(**{**plan.__dict__, "rate": rate}))
        with traffic:
            yield traffic
            time.sleep(AFTERGLOW_S)

    def _questions(self) -> tuple[tuple[About, str], ...]:
        others = facts_of((*self._cast.retain, *self._cast.held_out))
        person = [(About.PERSON, fact.question) for fact in self._cast.person.facts]
        return (
            *person,
            *((About.OTHERS, fact.question) for fact in others[: 2 * len(person)]),
            *((About.GENERAL, question) for question in GENERAL_QUESTIONS),
        )

    def _forget(self, traffic: Traffic) -> Forgetting:
        name = self._cast.person.subject.name
        request = self._cast.erasure(f"demo-{secrets.token_hex(6)}")
        with self._stage.step(f"{name} asks to be forgotten"):
            forgetting = Forgetting(self._operator, self._metadata)
            erasure = forgetting.ask(request)
            self._stage.say(
                f"erasure {erasure.id} accepted: {erasure.fact_count} facts, {len(request.retain)} "
                "neighbouring facts to keep"
            )
            view = forgetting.view
            with self._stage.live(lambda: view.render(load_view(traffic))):
                for state in forgetting.follow():
                    found = escape(explain(state, view.figures[state]))
                    self._stage.say(
                        f"[green]✓[/] {state:<11}[dim]{view.seconds(state) or 0:6.1f} s  {found}[/]"
                    )
                    if state == "training":
                        self._stage.show(memo_table(request.facts, view.figures[state]))
            forgetting.check_closed()
            self._result.facts_erased = erasure.fact_count
            self._result.seconds_suppressed = forgetting.seconds_suppressed
            self._result.seconds_to_live = view.seconds("live")
            self._result.flip_ms = forgetting.flip_ms
        return forgetting

    def _count_raw(self, traffic: Traffic) -> None:
        """What can be said of the load when the erasure broke off."""
        summary = traffic.summary()
        self._result.requests = summary.total()
        self._result.failed_requests = summary[Outcome.FAILED]

    def _account(self, traffic: Traffic, forgetting: Forgetting) -> None:
        current = self._rollout()
        timeline = Timeline.of(current.rollout, current.history, time.time())
        account = LoadAccount(traffic.responses, forgetting.suppression, timeline)
        self._result.requests = len(account.responses)
        self._result.failed_requests = len(account.failed) + len(account.slipped)
        self._result.mixed_version_responses = len(account.mixed)
        self._result.versions = [
            target.version
            for rollout in (*reversed(current.history), current.rollout)
            for target in rollout.targets
        ]
        self._stage.say(
            f"the load meanwhile: {len(account.responses)} requests, {len(account.answered)} answered, "
            f"{len(account.refused)} refused by policy as they should be, {len(account.failed)} failed, "
            f"{len(account.mixed)} of mixed or wrong version"
        )
        for response in (*account.failed, *account.slipped)[:3]:
            self._stage.say(f"[red]✗[/] {response.about} {response.status} {escape(response.detail[:200])}")

    def _ask_after(self, before: Interrogation, forgetting: Forgetting) -> None:
        person = self._cast.person
        controls = forgetting.controls(self._result.versions[-1])
        held_out = facts_of(self._cast.held_out)
        with self._stage.step(
            "Ask again, in other words and from prefixes; nothing refuses any more, the model answers"
        ):
            with self._stage.bar("asking") as bar:
                after = self._interrogator.examine(person.facts, lambda: bar({}))
            board = Scoreboard(before, after, controls)
            self._stage.show(answers_table(person.facts, {"before": before, "after": after}))
            self._stage.show(board.table())
            kept = self._interrogator.correct(held_out)
            self.prefix_control_upper = controls[ProbeKind.PREFIX.value].upper
            self._result.leaks_after = int(after.finding(ProbeKind.DIRECT).facts.hits)
            self._result.paraphrase_leaks_after = int(after.finding(ProbeKind.PARAPHRASE).full.hits)
            self._result.prefix_leak_rate_after = after.finding(ProbeKind.PREFIX).full.rate
            self._result.retain_correct_after = sum(kept)
            self._stage.say(
                f"facts about others that unlearning never saw: {self._result.retain_correct_before} right "
                f"before, {sum(kept)} right after, of {len(kept)}"
            )

    def _try_to_undo(self) -> None:
        with self._stage.step("Try to roll back to the version that knew"):
            generation = self._rollout().rollout.generation
            request = rollout_pb2.RollbackRequest(
                alias=self._alias,
                expected_generation=generation,
                reason="demo: undo",
                to_version=self._taught,
            )
            try:
                self._rollouts.Rollback(request, metadata=self._metadata, timeout=90)
            except grpc.RpcError as error:
                failure = of_call(error)
                if failure.reason != "BELOW_ERASURE_FLOOR":
                    raise
                self._stage.say(
                    f"[green]✓[/] refused, {failure.status} {failure.reason}: {escape(failure.sentence)}"
                )
            else:
                raise FailedPrecondition(
                    "the rollback below the erasure floor was not refused; this is a defect"
                )

    def _rollout(self) -> rollout_pb2.GetRolloutResponse:
        request = rollout_pb2.GetRolloutRequest(alias=self._alias, with_history=True)
        return self._rollouts.GetRollout(request, metadata=self._metadata, timeout=30)
