"""What is done in each state of an erasure. Every step can be repeated from its beginning without harm.

A step reads what it needs from the registry, has jobs done whose ids follow from the erasure and the
attempt, and returns where the erasure moves next. What later steps must know is written into the event of
that move.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from expunge.config import Settings
from expunge.erasures.event_feed import EventFeed
from expunge.erasures.figures import audit_figures, leaking_facts, memo_figures, training_figures
from expunge.erasures.flip import Flip, Rebase
from expunge.erasures.history import History
from expunge.erasures.lineage import Attempt, Lineage, is_canary, lineages_of, plan_of
from expunge.erasures.machine import MAX_REBASES
from expunge.erasures.report import store_report
from expunge.erasures.training_jobs import TrainingJobs
from expunge.erasures.verification import Verification, gateway_addresses
from expunge.erasures.waiting import Waiting
from expunge.errors import DeadlineExceeded, FailedPrecondition
from expunge.facts import ForgetRequest
from expunge.registry.audits import LIVE_LEAK
from expunge.registry.records import ErasureRecord, Verdict
from expunge.registry.records import ErasureState as S

if TYPE_CHECKING:
    from expunge.erasures.history import Registry

_REPLICAS = ("member:", "rollout:")  # topics under which it is told that a replica may hold a version now


@dataclass(frozen=True)
class Move:
    """Where an erasure goes next, what its event says (free of fact text), and verdicts stored with it."""

    state: S
    detail: str = ""
    version: str = ""
    round: int | None = None
    data: Mapping[str, Any] = field(default_factory=dict)
    verdicts: tuple[Verdict, ...] = ()


class Verifier(Protocol):
    """Asks probes through live gateways; `verification.LiveVerifier` does."""

    async def verify(
        self,
        erasure_id: str,
        request: ForgetRequest,
        versions: Mapping[str, str],
        gateways: Sequence[str],
        alongside: Sequence[str] = (),
    ) -> Verification: ...


class Steps:
    """The work of each state."""

    def __init__(
        self,
        registry: Registry,
        jobs: TrainingJobs,
        verifier: Verifier,
        feed: EventFeed,
        waiting: Waiting,
        settings: Settings,
    ) -> None:
        self._registry = registry
        self._jobs = jobs
        self._verifier = verifier
        self._feed = feed
        self._waiting = waiting
        self._settings = settings
        self._flip = Flip(registry, settings)

    async def run(self, record: ErasureRecord) -> Move | None:
        """Do the work of the state that `record` is in; None: the registry has moved the erasure itself.

        Raises:
            ExpungeError: the work can't be done; `Unavailable`, `Overloaded` and `DeadlineExceeded` may pass.
        """
        step = {
            S.ACCEPTED: self._suppress,
            S.SUPPRESSED: self._begin,
            S.INVERTING: self._invert,
            S.MEASURING: self._measure,
            S.TRAINING: self._train,
            S.AUDITING: self._audit,
            S.STAGING: self._go_live,
            S.LIVE: self._verify,
            S.VERIFIED: self._close,
        }[record.state]
        return await step(record, await History.read(self._registry, record.id))

    async def _suppress(self, record: ErasureRecord, history: History) -> Move:
        while True:
            try:
                seconds = await self._registry.await_guard(record.id, self._settings.lease_s)
            except DeadlineExceeded as error:
                await self._waiting.say(record, error.message)
                continue
            return Move(S.SUPPRESSED, data={"seconds_suppressed": seconds})

    async def _begin(self, record: ErasureRecord, history: History) -> Move:
        reopened = history.entered(S.INVERTING) is not None
        return Move(S.INVERTING, round=record.round + 1 if reopened else record.round)

    async def _invert(self, record: ErasureRecord, history: History) -> Move | None:
        withdrawn = frozenset(name for found in history.every("withdrawn") for name in found.values())
        with self._feed.listening(*_REPLICAS) as heard:
            try:
                back = await self._flip.back(record, withdrawn)
            except (FailedPrecondition, DeadlineExceeded) as error:
                await self._waiting.wait_for_replicas(record, error, heard)
                return None
        data: dict[str, Any] = {"back_on": back.moved, "no_version_to_go_back_to": back.stayed}
        if record.round > self._settings.max_rounds:
            return await self._give_up(record, f"still leaks after {record.round - 1} rounds", data)
        if not await self._waiting.may_train(record):
            return None
        plan = data["plan"] = await self._plan(record)
        leaking = history.latest("leaking") if record.round > 1 else []
        if record.round == 1 or leaking:
            attempt = Attempt(record.id, record.round, history.rebases)
            result = await self._jobs.invert(attempt, lineages_of(plan)[0], leaking or [])
            data["candidates"] = sum(map(len, result.candidates.values()))
            data["dropped"] = result.dropped
        detail = f"no earlier version may be served on alias {', '.join(back.stayed)}" if back.stayed else ""
        return Move(S.MEASURING, detail and f"{detail}: goes on from the one that leaked, guarded", data=data)

    async def _measure(self, record: ErasureRecord, history: History) -> Move:
        attempt, lineages = self._attempt(record, history)
        data: dict[str, Any] = {}
        waiting = await self._to_train(record, lineages)
        for lineage in waiting:
            spec, result = await self._jobs.measure(attempt, lineage)
            if lineage is waiting[0]:
                data = memo_figures(spec.candidates, result)
        return Move(S.TRAINING if waiting else S.STAGING, data=data)

    async def _train(self, record: ErasureRecord, history: History) -> Move:
        attempt, lineages = self._attempt(record, history)
        floor = await self._jobs.floor(record.id)
        trained = {
            lineage.live_version: await self._jobs.unlearn(attempt, lineage, floor)
            for lineage in await self._to_train(record, lineages)
        }
        versions = {live: result.version for live, result in trained.items()}
        first = next(iter(trained.values()))
        return Move(S.AUDITING, version=first.version, data={"versions": versions, **training_figures(first)})

    async def _audit(self, record: ErasureRecord, history: History) -> Move:
        attempt, lineages = self._attempt(record, history)
        floor = await self._jobs.floor(record.id)
        versions: Mapping[str, str] = history.latest("versions", S.AUDITING)
        results = [
            await self._jobs.audit(attempt, lineage, versions[lineage.live_version], floor)
            for lineage in lineages
            if lineage.live_version in versions
        ]
        failed = [result for result in results if not result.passed]
        figures = audit_figures(record.id, (failed or results)[0])
        if not failed:
            return Move(S.STAGING, data=figures)
        gates = ", ".join(figures["failed_gates"]) or f"{len(figures['failed_erasures'])} earlier erasures"
        detail = f"gates not met in round {record.round}: {gates}"
        if record.round >= self._settings.max_rounds:
            return await self._give_up(record, detail, figures)
        leaking = sorted({fact for result in failed for fact in leaking_facts(record.id, result)})
        return Move(S.INVERTING, detail, round=record.round + 1, data={**figures, "leaking": leaking})

    async def _go_live(self, record: ErasureRecord, history: History) -> Move | None:
        await self._plan(record)  # once no canary runs: if it is put back, nothing has to be trained again
        plan = history.plan
        successors: Mapping[str, str] = history.latest("versions", S.AUDITING) or {}
        versions = {live: successors.get(live, live) for live in plan.values()}
        with self._feed.listening(*_REPLICAS) as heard:
            try:
                flipped = await self._flip.forward(record, plan, versions)
            except Rebase as change:
                return await self._rebase(record, history, str(change))
            except (FailedPrecondition, DeadlineExceeded) as error:
                await self._waiting.wait_for_replicas(record, error, heard)
                return None
        await self._registry.advance_erasure(record.id, S.LIVE, S.LIVE, data={"flip_ms": flipped.flip_ms})
        return None

    async def _verify(self, record: ErasureRecord, history: History) -> Move | None:
        with self._feed.listening(*_REPLICAS, "erasure:") as heard:
            return await self._verify_once(record, heard)

    async def _verify_once(self, record: ErasureRecord, heard: asyncio.Event) -> Move | None:
        request = (await self._registry.get_erasure(record.id, with_request=True)).request
        assert request is not None
        plan = await self._plan(record)
        gateways = gateway_addresses(await self._registry.members())
        # Guards that would refuse these probes for longer than a verification can wait.
        lasting = await self._registry.list_erasures([S.LIVE, S.FAILED])
        alongside = [one.id for one in lasting if one.id != record.id]
        found = await self._verifier.verify(record.id, request, plan, gateways, alongside)
        data = {"verification": found.to_data()}
        if found.leaks:
            return await self._withdraw(record, plan, {"leaking": sorted(found.leaks), **data})
        if found.is_complete:
            return Move(S.VERIFIED, data=data)
        detail = (
            f"waits to be verified: of {found.asked} probes {found.refused} were refused by the guard of "
            f"another erasure, {found.unanswered} not answered, {found.other_version} went to another version"
        )
        await self._waiting.wait(record, detail, heard)
        return None

    async def _close(self, record: ErasureRecord, history: History) -> Move:
        await store_report(self._registry, record.id)
        return Move(S.CLOSED)

    async def _give_up(self, record: ErasureRecord, detail: str, data: Mapping[str, Any]) -> Move:
        return Move(S.FAILED, f"{detail}; suppression stays until an operator decides", data=data)

    async def _rebase(self, record: ErasureRecord, history: History, why: str) -> Move:
        if history.rebases >= MAX_REBASES:
            return await self._give_up(record, f"rebased {MAX_REBASES} times and again {why}", {})
        data = {"rebase": history.rebases + 1, "plan": await self._plan(record)}
        return Move(S.MEASURING, f"trains again: {why}", data=data)

    async def _plan(self, record: ErasureRecord) -> dict[str, str]:
        """What every alias points at, once none is split over several versions."""
        with self._feed.listening("rollout:") as heard:
            while True:
                heard.clear()
                rollouts = await self._registry.list_rollouts()
                split = [rollout.alias for rollout in rollouts if is_canary(rollout)]
                if not split:
                    return plan_of(rollouts)
                await self._waiting.say(record, f"waits for the canary of alias {', '.join(split)} to end")
                await heard.wait()

    async def _to_train(self, record: ErasureRecord, lineages: Sequence[Lineage]) -> list[Lineage]:
        return [one for one in lineages if not await self._jobs.meets(one.live_version, record.id)]

    async def _withdraw(
        self, record: ErasureRecord, plan: Mapping[str, str], data: Mapping[str, Any]
    ) -> Move:
        """Take back the verdicts of versions that leaked, so that they can't go live again.

        In one transaction with the move off the floor: a registry that starts in between would find the
        alias below the floor and serve it no more.
        """
        policy = await self._registry.get_policy()
        audit = f"{record.id}-r{record.round}-{LIVE_LEAK}"
        verdicts = [
            Verdict(name, record.id, policy, False, audit, (LIVE_LEAK,))
            for name in sorted(set(plan.values()))
        ]
        detail = f"live verification brought out {len(data['leaking'])} facts; takes the version back"
        data = {"withdrawn": dict(plan), **data}
        return Move(S.INVERTING, detail, round=record.round + 1, data=data, verdicts=tuple(verdicts))

    def _attempt(self, record: ErasureRecord, history: History) -> tuple[Attempt, tuple[Lineage, ...]]:
        return Attempt(record.id, record.round, history.rebases), lineages_of(history.plan)
