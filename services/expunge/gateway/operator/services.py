"""Which services the operator port offers."""

from __future__ import annotations

from expunge.config import Settings
from expunge.gateway.operator.adapter_service import AdapterService
from expunge.gateway.operator.adapter_upload import Spool
from expunge.gateway.operator.audit_service import AuditService
from expunge.gateway.operator.erasure_service import ErasureService
from expunge.gateway.operator.event_stream import EventStream
from expunge.gateway.operator.ledger_service import LedgerService
from expunge.gateway.operator.rollout_service import RolloutService
from expunge.gateway.operator.training_service import TrainingService
from expunge.gateway.server import Service
from expunge.gateway.upstream import BlobUpstream, RegistryUpstream
from expunge.rpc.operator.v1 import (
    adapter_pb2_grpc,
    audit_pb2_grpc,
    erasure_pb2_grpc,
    ledger_pb2_grpc,
    rollout_pb2_grpc,
    training_pb2_grpc,
)

_PACKAGE = "expunge.operator.v1"


def operator_services(
    settings: Settings, registry: RegistryUpstream, blobs: BlobUpstream, stream: EventStream, spool: Spool
) -> list[Service]:
    """Every service, ready to be added to a server."""
    return [
        Service(
            f"{_PACKAGE}.AdapterService",
            AdapterService(registry, blobs, spool, settings),
            adapter_pb2_grpc.add_AdapterServiceServicer_to_server,
        ),
        Service(
            f"{_PACKAGE}.RolloutService",
            RolloutService(registry, stream),
            rollout_pb2_grpc.add_RolloutServiceServicer_to_server,
        ),
        Service(
            f"{_PACKAGE}.ErasureService",
            ErasureService(registry, stream, settings),
            erasure_pb2_grpc.add_ErasureServiceServicer_to_server,
        ),
        Service(
            f"{_PACKAGE}.TrainingService",
            TrainingService(registry, stream, settings),
            training_pb2_grpc.add_TrainingServiceServicer_to_server,
        ),
        Service(
            f"{_PACKAGE}.AuditService",
            AuditService(registry, stream, settings.default_alias),
            audit_pb2_grpc.add_AuditServiceServicer_to_server,
        ),
        Service(
            f"{_PACKAGE}.LedgerService",
            LedgerService(),
            ledger_pb2_grpc.add_LedgerServiceServicer_to_server,
        ),
    ]
