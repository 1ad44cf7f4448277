"""The audit policy of this release, put in force where nothing that is served contradicts it.

Versions are audited under the release's own policy, and only verdicts under the policy in force count. After
an upgrade that changes the policy, versions bound by the floor have passed the former one only, so the
registry refuses the switch, and nothing that is trained could go live. To audit them all again as part of an
upgrade is later work: here the switch is only tried, again and again, and what it still wants is told.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from expunge.auditing.policy import DEFAULT_POLICY
from expunge.errors import BelowFloor

if TYPE_CHECKING:
    from expunge.erasures.history import Registry


async def put_policy_in_force(registry: Registry) -> str:
    """Put this release's policy in force; "" once it is, else what is missing and what to do about it."""
    if await registry.get_policy() == DEFAULT_POLICY.digest:
        return ""
    try:
        await registry.set_policy(DEFAULT_POLICY.digest)
    except BelowFloor as error:
        missing = "; ".join(f"version {found.field} {found.message}" for found in error.violations)
        return (
            f"trains nothing while this release's audit policy (version {DEFAULT_POLICY.version}) is not in "
            f"force: {missing} under it; audit that version against them (`expunge audit run`), or go back "
            "to the release before"
        )
    return ""
