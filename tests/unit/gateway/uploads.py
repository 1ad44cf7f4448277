"""Uploads as a client makes them, good and bad."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

from expunge.rpc.operator.v1 import adapter_pb2 as pb


@dataclass(frozen=True)
class Upload:
    """What is sent; `declared_*` default to the truth."""

    name: str
    tensors: bytes
    config: bytes
    base_digest: str
    declared_size: int | None = None
    declared_sha256: str | None = None
    chunk_bytes: int = 2**16

    @classmethod
    def of(cls, folder: Path, name: str, base_digest: str) -> Upload:
        return cls(
            name,
            (folder / "adapter_model.safetensors").read_bytes(),
            (folder / "adapter_config.json").read_bytes(),
            base_digest,
        )

    def with_config(self, **fields: object) -> Upload:
        return replace(self, config=json.dumps(json.loads(self.config) | fields).encode())

    def messages(self) -> Iterator[pb.PushAdapterRequest]:
        yield pb.PushAdapterRequest(
            header=pb.AdapterHeader(
                name=self.name,
                sha256=self.declared_sha256 or sha256(self.tensors).hexdigest(),
                size_bytes=len(self.tensors) if self.declared_size is None else self.declared_size,
                base_digest=self.base_digest,
                config_json=self.config,
            )
        )
        for start in range(0, len(self.tensors), self.chunk_bytes):
            yield pb.PushAdapterRequest(chunk=self.tensors[start : start + self.chunk_bytes])
