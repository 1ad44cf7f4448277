"""The audit job of a version: which erasures, against which baseline, under which id."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

from expunge.gateway.operator.job_intake import create_once
from expunge.gateway.upstream import RegistryUpstream
from expunge.registry.records import JobKind, JobRecord, JobState
from expunge.unlearning.jobs import AuditSpec


async def start_audit(
    registry: RegistryUpstream, version: str, erasure_ids: Sequence[str], alias: str, job_id: str = ""
) -> JobRecord:
    """Create the job, or return the one that is there; `alias` serves the baseline of what must be kept.

    Args:
        job_id: "" derives one from version, erasures and baseline: the same audit is not queued twice.

    Raises:
        AlreadyExists: `job_id` was used for another audit.
    """
    live = (await registry.get_rollout(alias)).targets[0].version
    spec = AuditSpec(version=version, erasure_ids=list(erasure_ids), live_version=live)
    if not job_id:
        content = "\0".join((version, live, *sorted(erasure_ids)))
        job_id = f"audit-{sha256(content.encode()).hexdigest()[:20]}"
    return await create_once(registry, JobRecord(job_id, JobKind.AUDIT, JobState.QUEUED, spec=spec.to_dict()))
