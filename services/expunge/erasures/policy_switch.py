"""The configured audit policy, put in force where nothing that is served contradicts it.

Versions are audited under it, and only verdicts under the policy in force count. Once it is another, by the
setting or by an upgrade, versions bound by the floor have passed the former one only, so the registry refuses
the switch, and nothing that is trained could go live. To audit them all again as part of that is later work:
here the switch is only tried, again and again, and what it still wants is told.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from expunge.auditing.policy import Policy
from expunge.errors import BelowFloor

if TYPE_CHECKING:
    from expunge.erasures.history import Registry


async def put_policy_in_force(registry: Registry, policy: Policy) -> str:
    """Put `policy` in force; "" once it is, else what is missing and what to do about it."""
    if await registry.get_policy() == policy.digest:
        return ""
    try:
        await registry.set_policy(policy.digest)
    except BelowFloor as error:
        missing = "; ".join(f"version {found.field} {found.message}" for found in error.violations)
        return (
            f"trains nothing while the audit policy {policy.name} (version {policy.version}) is not in force "
            f"yet: {missing} under it; audit that version against them (`expunge audit run`), or go back to "
            "the policy, or the release, before"
        )
    return ""
