from __future__ import annotations

import pytest

from expunge.errors import NotFound
from expunge.registry.audits import LIVE_LEAK
from expunge.registry.records import Verdict
from expunge.registry.service import RegistryService

from .conftest import POLICY, accept


async def test_an_audit_keeps_its_report(registry: RegistryService) -> None:
    erasure = await accept(registry)
    stored = await registry.put_audit("audit-1", "sha-a", erasure.id, {"leaks": {"n": 3, "hits": 0}})
    assert stored.report is None
    await registry.put_audit("audit-1", "sha-a", erasure.id, {"leaks": "a repeated call changes nothing"})
    assert (await registry.get_audit("audit-1")).report == {"leaks": {"n": 3, "hits": 0}}
    with pytest.raises(NotFound):
        await registry.get_audit("audit-2")


async def test_audits_are_listed_by_version_and_erasure(registry: RegistryService) -> None:
    erasure = await accept(registry)
    await registry.put_audit("audit-1", "sha-a", erasure.id, {})
    await registry.put_audit("audit-2", "sha-b", "", {})
    assert [audit.id for audit in await registry.list_audits()] == ["audit-1", "audit-2"]
    assert [audit.id for audit in await registry.list_audits(version="sha-b")] == ["audit-2"]
    assert [audit.id for audit in await registry.list_audits(erasure_id=erasure.id)] == ["audit-1"]


async def test_a_version_that_leaked_live_stays_below_whatever_an_audit_finds(
    registry: RegistryService,
) -> None:
    erasure = await accept(registry)
    leaked = Verdict("sha-a", erasure.id, POLICY, False, "audit-1", (LIVE_LEAK,))
    await registry.put_verdicts([leaked])
    for policy in (POLICY, "policy-2"):
        await registry.put_verdicts([Verdict("sha-a", erasure.id, policy, True, "audit-2")])
    assert await registry.list_verdicts("sha-a") == [leaked]


async def test_the_latest_verdict_replaces_the_former(registry: RegistryService) -> None:
    erasure = await accept(registry)
    verdict = Verdict("sha-a", erasure.id, POLICY, True, "audit-1")
    failed = Verdict("sha-a", erasure.id, POLICY, False, "audit-2", ("prefix_leak",))
    await registry.put_verdicts([verdict])
    await registry.put_verdicts([verdict, failed])
    assert await registry.list_verdicts("sha-a") == [failed]
    assert await registry.list_verdicts(erasure_id="er-none") == []
