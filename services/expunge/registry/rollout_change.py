"""One change of a rollout: what it needs to be valid, and its commit."""

from __future__ import annotations

from dataclasses import dataclass, replace

from sqlalchemy.engine import Connection

from expunge.errors import FailedPrecondition, InvalidRequest, NotFound, StaleGeneration
from expunge.registry import canary_plans, floor, schema
from expunge.registry.canary import CanarySpec
from expunge.registry.canary_plans import Move
from expunge.registry.erasure_change import go_live
from expunge.registry.records import Rollout, Target, VersionRecord, VersionState
from expunge.registry.serving_state import current_rollout, current_rollouts, read_versions
from expunge.registry.transaction import Transaction
from expunge.registry.versions import retired


@dataclass(frozen=True)
class Change:
    """What a caller of SetRollout wants.

    `canary` says what the change is to the alias's canary: None ends one that runs.
    """

    alias: str
    targets: tuple[Target, ...]
    expected_generation: int
    reason: str
    principal: str
    erasure_id: str = ""
    canary: Move | None = None

    def is_done_by(self, current: Rollout) -> bool:
        """Whether `current` is the outcome of this very change, so that a repeat can answer with it."""
        return (
            current.alias == self.alias
            and current.generation == self.expected_generation + 1
            and current.targets == self.targets
            and (current.reason, current.principal) == (self.reason, self.principal)
        )


def find_rollout(connection: Connection, alias: str) -> Rollout:
    """The current rollout of an alias. Raises NotFound."""
    found = current_rollout(connection, alias)
    if found is None:
        raise NotFound(f"alias '{alias}' does not exist; list the rollouts to see which do")
    return found


def begin_canary(connection: Connection, change: Change, spec: CanarySpec) -> Change:
    """The first step of a canary of the one version that `change` names. Raises as `Rollouts.set_rollout`."""
    spec.require_valid()
    if len(change.targets) != 1 or change.targets[0].weight != 100:
        raise InvalidRequest.of("targets", "a canary is of one version, which takes over the whole alias")
    version = change.targets[0].version
    current = find_rollout(connection, change.alias)
    running = canary_plans.running_plan(connection, change.alias)
    if running is not None and running.version == version:
        repeated = replace(change, targets=spec.targets(0, version, running.stable), canary=spec)
        if repeated.is_done_by(current):
            return repeated
    canary_plans.require_none_running(connection, change.alias)
    stable = current.targets[0].version
    if len(current.targets) > 1 or stable == version:
        points = "is split over several versions" if stable != version else "points at that version already"
        raise FailedPrecondition(
            f"alias '{change.alias}' {points}; a canary takes over from one other version, so set the "
            "rollout to that one first",
            reason="NOT_ONE_OTHER_VERSION",
            metadata={"alias": change.alias},
        )
    return replace(change, targets=spec.targets(0, version, stable), canary=spec)


def validate(connection: Connection, change: Change) -> list[VersionRecord]:
    """The records of the change's targets, if it could be committed now. Raises as `Rollouts.set_rollout`."""
    _validate_shape(change)
    current = current_rollout(connection, change.alias)
    generation = current.generation if current else 0
    if current is None and change.expected_generation != 0:
        find_rollout(connection, change.alias)
    done = current is not None and change.is_done_by(current)
    if generation != change.expected_generation and not done:
        raise StaleGeneration(
            f"alias '{change.alias}' is at generation {generation}, not {change.expected_generation}; "
            "read the rollout again and decide anew",
            metadata={"alias": change.alias, "generation": str(generation)},
        )
    records = read_versions(connection, [target.version for target in change.targets])
    for target in change.targets:
        record = records.get(target.version)
        if record is None:
            raise NotFound(f"version {target.version} does not exist; push the adapter first")
        if record.state is not VersionState.READY:
            raise retired(record.id)
    extra = (change.erasure_id,) if change.erasure_id else ()
    floor.require_floor(connection, change.targets, extra)
    return [records[target.version] for target in change.targets]


def commit(transaction: Transaction, change: Change) -> Rollout:
    """Store the change, checking everything again. Raises as `Rollouts.set_rollout`."""
    connection = transaction.connection
    validate(connection, change)
    current = current_rollout(connection, change.alias)
    if current is not None and change.is_done_by(current):
        return current
    generation = change.expected_generation + 1
    aliases = schema.aliases
    if current is None:
        transaction.execute(aliases.insert().values(alias=change.alias, generation=generation))
    else:
        transaction.execute(
            aliases.update().where(aliases.c.alias == change.alias).values(generation=generation)
        )
    targets = [[target.version, target.weight] for target in change.targets]
    transaction.execute(
        schema.rollouts.insert().values(
            alias=change.alias,
            generation=generation,
            targets=targets,
            committed_at=transaction.now,
            reason=change.reason,
            principal=change.principal,
        )
    )
    canary_plans.follow(
        transaction, change.alias, generation, change.targets, change.canary, change.reason, change.principal
    )
    if change.erasure_id:
        go_live(transaction, change.erasure_id, current_rollouts(connection), change.principal)
    transaction.add_event(
        f"rollout:{change.alias}",
        "changed",
        {"generation": generation, "targets": targets, "reason": change.reason},
        change.principal,
    )
    transaction.change_snapshot()
    transaction.rolled_out.add(change.alias)
    return find_rollout(connection, change.alias)


def _validate_shape(change: Change) -> None:
    if not change.alias:
        raise InvalidRequest.of("alias", "must not be empty")
    if not change.targets:
        raise InvalidRequest.of("targets", "at least one version is needed")
    names = [target.version for target in change.targets]
    if len(set(names)) != len(names):
        raise InvalidRequest.of("targets", "a version may occur once only")
    for index, target in enumerate(change.targets):
        if not 1 <= target.weight <= 100:
            raise InvalidRequest.of(f"targets[{index}].weight", "must be between 1 and 100")
    if sum(target.weight for target in change.targets) != 100:
        raise InvalidRequest.of("targets", "weights must sum to 100")
