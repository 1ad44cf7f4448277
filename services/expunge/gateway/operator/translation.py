"""Between the registry's records and the messages of the operator services."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from google.protobuf.duration_pb2 import Duration
from google.protobuf.struct_pb2 import Struct
from google.protobuf.timestamp_pb2 import Timestamp

from expunge.registry.records import (
    ErasureRecord,
    ErasureState,
    EventRecord,
    JobKind,
    JobRecord,
    JobState,
    Rollout,
    VersionRecord,
)
from expunge.rpc.operator.v1 import adapter_pb2, erasure_pb2, event_pb2, rollout_pb2, training_pb2


def timestamp(seconds: float) -> Timestamp | None:
    """A time in seconds since the epoch; None for 0, which means unset."""
    if not seconds:
        return None
    result = Timestamp()
    result.FromNanoseconds(int(seconds * 1e9))
    return result


def seconds_of(duration: Duration) -> float:
    return float(duration.ToNanoseconds()) / 1e9


def struct(data: Mapping[str, Any]) -> Struct:
    """Plain data as a protobuf Struct; numbers become doubles, and those that are not finite null."""
    result = Struct()
    result.update({key: _plain(value) for key, value in data.items()})
    return result


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return str(value)


def version_message(record: VersionRecord) -> adapter_pb2.AdapterVersion:
    return adapter_pb2.AdapterVersion(
        id=record.id,
        kind=adapter_pb2.VersionKind.Value(f"VERSION_KIND_{record.kind.name}"),
        name=record.name,
        base_digest=record.base_digest,
        rank=record.rank,
        size_bytes=record.size_bytes,
        parent=record.parent,
        source=record.source,
        state=adapter_pb2.VersionState.Value(f"VERSION_STATE_{record.state.name}"),
        created_at=timestamp(record.created_at),
    )


def rollout_message(rollout: Rollout) -> rollout_pb2.Rollout:
    return rollout_pb2.Rollout(
        alias=rollout.alias,
        generation=rollout.generation,
        targets=[
            rollout_pb2.Target(version=target.version, weight=target.weight) for target in rollout.targets
        ],
        committed_at=timestamp(rollout.committed_at),
        reason=rollout.reason,
        principal=rollout.principal,
    )


def erasure_state(state: ErasureState) -> erasure_pb2.ErasureState.ValueType:
    return erasure_pb2.ErasureState.Value(f"ERASURE_STATE_{state.name}")


def erasure_message(record: ErasureRecord) -> erasure_pb2.Erasure:
    return erasure_pb2.Erasure(
        id=record.id,
        request_id=record.request_id,
        kind=erasure_pb2.ErasureKind.Value(f"ERASURE_KIND_{record.kind.name}"),
        state=erasure_state(record.state),
        aliases=record.aliases,
        fact_count=record.fact_count,
        ground=record.ground,
        due_at=timestamp(record.due_at),
        created_at=timestamp(record.created_at),
        updated_at=timestamp(record.updated_at),
        round=record.round,
        version=record.version,
        detail=record.detail,
    )


def job_state(state: JobState) -> training_pb2.JobState.ValueType:
    return training_pb2.JobState.Value(f"JOB_STATE_{state.name}")


def job_message(record: JobRecord) -> training_pb2.Job:
    """The job; its result only where it was read and is that of a fine-tune: others may hold fact text."""
    shows_result = record.result is not None and record.kind is JobKind.FINE_TUNE
    return training_pb2.Job(
        id=record.id,
        kind=training_pb2.JobKind.Value(f"JOB_KIND_{record.kind.name}"),
        state=job_state(record.state),
        erasure_id=record.erasure_id,
        worker=record.worker,
        attempt=record.attempt,
        created_at=timestamp(record.created_at),
        updated_at=timestamp(record.updated_at),
        progress=struct(record.progress),
        error="" if record.erasure_id else record.error,
        result=struct(record.result or {}) if shows_result else None,
    )


def event_message(record: EventRecord) -> event_pb2.Event:
    return event_pb2.Event(
        seq=record.seq,
        at=timestamp(record.at),
        topic=record.topic,
        kind=record.kind,
        principal=record.principal,
        data=struct(record.data),
    )
