"""General ability of a version and its baseline: some items, and all of them where those leave it open."""

from __future__ import annotations

from expunge.auditing.ability.finding import AbilityFinding
from expunge.auditing.ability.scores import KnownScores
from expunge.auditing.ability.tasks import Ability, TaskSet, shipped_tasks
from expunge.auditing.gates import ability_loss
from expunge.auditing.policy import Policy
from expunge.auditing.text_model import TextModel


def compare_ability(
    model: TextModel, baseline: str, version: str, tasks: TaskSet, policy: Policy, scores: KnownScores
) -> AbilityFinding | None:
    """What both make of `tasks`; of all items of the same tasks where these only hint at too great a loss.

    None where no task is to be asked, or there is no baseline.

    Raises:
        VersionNotStaged: the model does not hold a version.
    """
    if not baseline or not tasks.asked:
        return None

    def compared(asked: TaskSet) -> AbilityFinding:
        return AbilityFinding.of(asked, *(scores.of(model, one, asked) for one in (baseline, version)))

    found = compared(tasks)
    return compared(shipped_tasks().some(tasks.asked)) if _is_open(found, policy) else found


def _is_open(found: AbilityFinding, policy: Policy) -> bool:
    """Whether a blocking gate passes only since the loss, greater than allowed, may be chance."""
    rules = [rule for rule in policy.gates if rule.blocking and rule.figure in list(Ability)]
    return any(
        change is not None and -change.value > rule.most and ability_loss(rule, change).passed
        for rule in rules
        for change in [found.changes.get(Ability(rule.figure))]
    )
