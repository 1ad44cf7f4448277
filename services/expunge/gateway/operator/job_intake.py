"""Accepting a job under an id that the caller chose."""

from __future__ import annotations

from expunge.errors import AlreadyExists
from expunge.gateway.upstream import RegistryUpstream
from expunge.registry.records import JobRecord


async def create_once(registry: RegistryUpstream, job: JobRecord) -> JobRecord:
    """Create `job`, or return the one that is there if it has the same content.

    Raises:
        AlreadyExists: the id belongs to a job with other content.
    """
    created = await registry.create_job(job)
    stored = await registry.get_job(job.id, with_payload=True)
    if (stored.kind, stored.spec) != (job.kind, job.spec):
        raise AlreadyExists(
            f"request id '{job.id}' belongs to another job; send the same content, or a new request id",
            metadata={"job": job.id},
        )
    return created
