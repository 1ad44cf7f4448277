"""AdapterService: versions in and out."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

from expunge.config import Settings
from expunge.errors import AlreadyExists, FailedPrecondition, InvalidRequest, NotFound
from expunge.gateway.base_model import shape_key
from expunge.gateway.call import current_caller
from expunge.gateway.chain import Context
from expunge.gateway.operator.adapter_upload import CHUNK_BYTES, Spool, check_header, receive_adapter
from expunge.gateway.operator.floor_audit import start_audit
from expunge.gateway.operator.paging import newest_first, page_of
from expunge.gateway.operator.translation import version_message
from expunge.gateway.upstream import BlobUpstream, RegistryUpstream
from expunge.lora.files import CONFIG_NAME, TENSORS_NAME, tensors_digest, version_id
from expunge.lora.shape import ModelShape
from expunge.lora.validation import validate_adapter
from expunge.registry.blobs import adapter_key
from expunge.registry.records import VersionKind, VersionRecord
from expunge.rpc.operator.v1 import adapter_pb2 as pb
from expunge.rpc.operator.v1 import adapter_pb2_grpc as pb_grpc


class AdapterService(pb_grpc.AdapterServiceServicer):
    """Nothing is stored before it has been validated, and nothing refused leaves a trace."""

    def __init__(
        self, registry: RegistryUpstream, blobs: BlobUpstream, spool: Spool, settings: Settings
    ) -> None:
        self._registry = registry
        self._blobs = blobs
        self._spool = spool
        self._settings = settings

    async def PushAdapter(
        self, requests: AsyncIterator[pb.PushAdapterRequest], context: Context
    ) -> pb.PushAdapterResponse:
        header = await _header_of(requests)
        check_header(header, self._settings.max_adapter_bytes)
        parent = (await self._registry.get_version(header.parent)).id if header.parent else ""
        with self._spool.folder() as folder:
            await receive_adapter(requests, header, folder)
            rank = await self._validated_rank(header, folder)
            version = await asyncio.to_thread(version_id, folder)
            record = VersionRecord(
                id=version,
                kind=VersionKind.ADAPTER,
                name=header.name,
                base_digest=header.base_digest,
                rank=rank,
                size_bytes=header.size_bytes,
                blob=adapter_key(version),
                parent=parent,
                source="pushed",
                created_at=time.time(),
            )
            stored, existed = await self._store(record, folder)
        return pb.PushAdapterResponse(
            adapter=version_message(stored), existed=existed, audit_id=await self._start_audit(stored.id)
        )

    async def DownloadAdapter(
        self, request: pb.DownloadAdapterRequest, context: Context
    ) -> AsyncIterator[pb.DownloadAdapterResponse]:
        record = await self._registry.get_version(request.version)
        if record.kind is not VersionKind.ADAPTER:
            raise FailedPrecondition(f"version {record.id} is the base model; it has no adapter file")
        with self._spool.folder() as folder:
            await asyncio.to_thread(self._blobs.fetch_folder, record.blob, folder)
            yield pb.DownloadAdapterResponse(header=await asyncio.to_thread(_header_for, record, folder))
            with (folder / TENSORS_NAME).open("rb") as file:
                while chunk := await asyncio.to_thread(file.read, CHUNK_BYTES):
                    yield pb.DownloadAdapterResponse(chunk=chunk)

    async def GetAdapter(self, request: pb.GetAdapterRequest, context: Context) -> pb.GetAdapterResponse:
        record = await self._registry.get_version(request.version)
        unmet = await self._registry.unmet(record.id)
        return pb.GetAdapterResponse(adapter=version_message(record), unmet_erasures=unmet)

    async def ListAdapters(
        self, request: pb.ListAdaptersRequest, context: Context
    ) -> pb.ListAdaptersResponse:
        records = newest_first(await self._registry.list_versions(include_retired=request.include_retired))
        page, token = page_of(records, request.page_size, request.page_token)
        return pb.ListAdaptersResponse(
            adapters=[version_message(record) for record in page], next_page_token=token
        )

    async def RetireAdapter(
        self, request: pb.RetireAdapterRequest, context: Context
    ) -> pb.RetireAdapterResponse:
        record = await self._registry.get_version(request.version)
        retired = await self._registry.retire_version(record.id, current_caller().principal)
        return pb.RetireAdapterResponse(adapter=version_message(retired))

    async def _validated_rank(self, header: pb.AdapterHeader, folder: Path) -> int:
        shape_file = await asyncio.to_thread(self._blobs.get_bytes, shape_key(await self._base_digest()))
        adapter = await asyncio.to_thread(
            validate_adapter,
            folder,
            ModelShape.from_json(shape_file.decode()),
            max_rank=self._settings.max_rank,
            declared_size=header.size_bytes,
            declared_base=header.base_digest,
        )
        return max(pair.rank for pair in adapter.pairs.values())

    async def _base_digest(self) -> str:
        """Manifest digest of the base model that is served."""
        for record in await self._registry.list_versions():
            if record.kind is VersionKind.BASE:
                return record.base_digest
        raise FailedPrecondition("no base model has been registered yet; start an engine first")

    async def _store(self, record: VersionRecord, folder: Path) -> tuple[VersionRecord, bool]:
        """Store files, then the record that makes them visible; returns it, and whether it was there before.

        Where another upload takes the name in between, the files stay: they are stored by their contents, and
        somebody may be pushing the same under another name.

        Raises:
            AlreadyExists: the name belongs to another version.
        """
        if (found := await self._find(record.id)) is not None:
            await asyncio.to_thread(self._blobs.put_folder, folder, found.blob)  # restores what was lost
            return found, True
        named = await self._find(record.name)
        if named is not None:
            raise AlreadyExists(
                f"the name '{record.name}' belongs to version {named.id}; a version never changes, "
                "choose another name",
                metadata={"version": named.id, "name": record.name},
            )
        await asyncio.to_thread(self._blobs.put_folder, folder, record.blob)
        return await self._registry.put_version(record), False

    async def _find(self, id_or_name: str) -> VersionRecord | None:
        try:
            return await self._registry.get_version(id_or_name)
        except NotFound:
            return None

    async def _start_audit(self, version: str) -> str:
        """Start the audit that the floor asks of a version; "" where it meets the floor already."""
        unmet = await self._registry.unmet(version)
        if not unmet:
            return ""
        return (await start_audit(self._registry, version, unmet, self._settings.default_alias)).id


async def _header_of(requests: AsyncIterator[pb.PushAdapterRequest]) -> pb.AdapterHeader:
    async for request in requests:
        if request.WhichOneof("part") == "header":
            return request.header
        break
    raise InvalidRequest.of("part", "the first message must be the header")


def _header_for(record: VersionRecord, folder: Path) -> pb.AdapterHeader:
    return pb.AdapterHeader(
        name=record.name,
        sha256=tensors_digest(folder),
        size_bytes=(folder / TENSORS_NAME).stat().st_size,
        base_digest=record.base_digest,
        config_json=(folder / CONFIG_NAME).read_bytes(),
        parent=record.parent,
    )
