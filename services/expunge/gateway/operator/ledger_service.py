"""LedgerService: part of the contract; the Merkle log behind it is not built yet."""

from __future__ import annotations

from collections.abc import AsyncIterator

from expunge.gateway.chain import Context
from expunge.gateway.unbuilt import not_built
from expunge.rpc.operator.v1 import ledger_pb2 as pb
from expunge.rpc.operator.v1 import ledger_pb2_grpc as pb_grpc


class LedgerService(pb_grpc.LedgerServiceServicer):
    """Every call is authenticated and authorised, then answered UNIMPLEMENTED."""

    async def GetCheckpoint(
        self, request: pb.GetCheckpointRequest, context: Context
    ) -> pb.GetCheckpointResponse:
        raise not_built("GetCheckpoint")

    async def GetEntry(self, request: pb.GetEntryRequest, context: Context) -> pb.GetEntryResponse:
        raise not_built("GetEntry")

    async def ListEntries(self, request: pb.ListEntriesRequest, context: Context) -> pb.ListEntriesResponse:
        raise not_built("ListEntries")

    async def GetInclusionProof(
        self, request: pb.GetInclusionProofRequest, context: Context
    ) -> pb.GetInclusionProofResponse:
        raise not_built("GetInclusionProof")

    async def GetConsistencyProof(
        self, request: pb.GetConsistencyProofRequest, context: Context
    ) -> pb.GetConsistencyProofResponse:
        raise not_built("GetConsistencyProof")

    async def Export(self, request: pb.ExportRequest, context: Context) -> AsyncIterator[pb.ExportResponse]:
        raise not_built("Export")
        yield  # makes this a stream
