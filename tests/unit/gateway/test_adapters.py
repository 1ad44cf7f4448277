"""AdapterService: what goes in comes out, and what is bad leaves no trace."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import grpc
import pytest
import torch
from safetensors.torch import load, save

from expunge.errors import Unavailable
from expunge.gateway.operator.adapter_upload import Spool
from expunge.registry.records import VersionRecord
from expunge.rpc.operator.v1 import adapter_pb2 as pb
from expunge.rpc.operator.v1.adapter_pb2_grpc import AdapterServiceStub
from gateway.conftest import LiveGateway, bearer
from gateway.uploads import Upload

pytestmark = pytest.mark.asyncio(loop_scope="module")
OPERATOR = bearer("operator")


@pytest.fixture
def good(live: LiveGateway, tiny_adapter_folders: tuple[Path, Path]) -> Upload:
    return Upload.of(tiny_adapter_folders[0], "good", live.base.base_digest)


async def push(live: LiveGateway, upload: Upload) -> pb.PushAdapterResponse:
    return await AdapterServiceStub(live.operator).PushAdapter(upload.messages(), metadata=OPERATOR)


def with_tensors(upload: Upload, change: Callable[[dict[str, torch.Tensor]], None]) -> Upload:
    tensors = load(upload.tensors)
    change(tensors)
    return replace(upload, tensors=save(tensors))


def fill_nan(tensors: dict[str, torch.Tensor]) -> None:
    next(iter(tensors.values()))[0, 0] = float("nan")


def drop_one(tensors: dict[str, torch.Tensor]) -> None:
    tensors.pop(next(iter(tensors)))


def add_one(tensors: dict[str, torch.Tensor]) -> None:
    tensors["base_model.model.extra.weight"] = torch.zeros(2)


def narrow(tensors: dict[str, torch.Tensor]) -> None:
    name = next(name for name in tensors if "lora_A" in name)
    tensors[name] = tensors[name][:, :-1].contiguous()


BAD: dict[str, tuple[Callable[[Upload], Upload], grpc.StatusCode, str]] = {
    "pickle": (
        lambda good: replace(good, tensors=pickle.dumps({"weight": [1.0]})),
        grpc.StatusCode.INVALID_ARGUMENT,
        "safetensors",
    ),
    "truncated": (
        lambda good: replace(
            good,
            tensors=good.tensors[:-10],
            declared_size=len(good.tensors),
            declared_sha256=sha256(good.tensors).hexdigest(),
        ),
        grpc.StatusCode.DATA_LOSS,
        "ended after",
    ),
    "truncated, and declared so": (
        lambda good: replace(good, tensors=good.tensors[:-10]),
        grpc.StatusCode.INVALID_ARGUMENT,
        "adapter_model.safetensors",
    ),
    "wrong digest": (
        lambda good: replace(good, declared_sha256="0" * 64),
        grpc.StatusCode.DATA_LOSS,
        "sha256",
    ),
    "wrong base": (
        lambda good: replace(good, base_digest="f" * 64),
        grpc.StatusCode.INVALID_ARGUMENT,
        "base model",
    ),
    "wrong shape": (
        lambda good: with_tensors(good, narrow),
        grpc.StatusCode.INVALID_ARGUMENT,
        "the base model has",
    ),
    "NaN": (lambda good: with_tensors(good, fill_nan), grpc.StatusCode.INVALID_ARGUMENT, "NaN"),
    "missing tensor": (lambda good: with_tensors(good, drop_one), grpc.StatusCode.INVALID_ARGUMENT, "lora_"),
    "extra tensor": (lambda good: with_tensors(good, add_one), grpc.StatusCode.INVALID_ARGUMENT, "extra"),
    "path in the name": (
        lambda good: replace(good, name="../../etc/cron.d/x"),
        grpc.StatusCode.INVALID_ARGUMENT,
        "header.name",
    ),
    "a version's id for a name": (
        lambda good: replace(good, name="a1" * 32),
        grpc.StatusCode.INVALID_ARGUMENT,
        "header.name",
    ),
    "larger than declared": (
        lambda good: replace(good, declared_size=len(good.tensors) - 1),
        grpc.StatusCode.INVALID_ARGUMENT,
        "larger than the declared",
    ),
    "larger than allowed": (
        lambda good: replace(good, declared_size=2**40),
        grpc.StatusCode.INVALID_ARGUMENT,
        "header.size_bytes",
    ),
    "chunks larger than a mebibyte": (
        lambda good: replace(good, tensors=bytes(2**20 + 1), chunk_bytes=2**21),
        grpc.StatusCode.INVALID_ARGUMENT,
        "chunk",
    ),
    "unknown feature": (
        lambda good: good.with_config(use_dora=True),
        grpc.StatusCode.INVALID_ARGUMENT,
        "use_dora",
    ),
    "rank above the limit": (
        lambda good: with_tensors(
            good.with_config(r=32),
            lambda tensors: tensors.update(
                {name: torch.cat([tensor] * 8, dim=int("lora_B" in name)) for name, tensor in tensors.items()}
            ),
        ),
        grpc.StatusCode.INVALID_ARGUMENT,
        "rank",
    ),
    "config that is no JSON": (
        lambda good: replace(good, config=b"rank: 4"),
        grpc.StatusCode.INVALID_ARGUMENT,
        "adapter_config.json",
    ),
}


async def test_what_a_killed_gateway_was_receiving_goes_when_another_starts(tmp_path: Path) -> None:
    living, starting = Spool(tmp_path / "spool" / "living"), Spool(tmp_path / "spool" / "starting")
    living.sweep()
    dead = tmp_path / "spool" / "dead" / "adapter-x"
    dead.mkdir(parents=True)
    (dead / "adapter_model.safetensors").write_bytes(bytes(100))
    with living.folder() as folder:
        starting.sweep()
        assert folder.is_dir()
        assert not dead.parent.exists()
    for spool in (living, starting):
        spool.close()
    assert list((tmp_path / "spool").iterdir()) == []


@pytest.mark.usefixtures("without_leftovers")
@pytest.mark.parametrize("fault", BAD)
async def test_a_bad_adapter_is_refused_by_name_and_leaves_nothing(
    live: LiveGateway, good: Upload, fault: str
) -> None:
    spoil, code, words = BAD[fault]
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await push(live, spoil(good))
    assert caught.value.code() is code
    assert words in (caught.value.details() or "")
    assert [record.name for record in await live.registry.list_versions()] == ["base"]


@pytest.mark.usefixtures("without_leftovers")
async def test_an_upload_without_header_is_refused(live: LiveGateway) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await AdapterServiceStub(live.operator).PushAdapter(
            iter([pb.PushAdapterRequest(chunk=b"abc")]), metadata=OPERATOR
        )
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_pushed_adapter_comes_back_byte_for_byte(live: LiveGateway, good: Upload) -> None:
    pushed = await push(live, good)
    assert not pushed.existed
    assert pushed.audit_id == ""
    assert pushed.adapter.rank == 4
    stub = AdapterServiceStub(live.operator)
    messages = [
        message
        async for message in stub.DownloadAdapter(
            pb.DownloadAdapterRequest(version="good"), metadata=OPERATOR
        )
    ]
    assert messages[0].header.sha256 == sha256(good.tensors).hexdigest()
    assert messages[0].header.config_json == good.config
    assert b"".join(message.chunk for message in messages[1:]) == good.tensors

    again = await push(live, replace(good, name="other"))
    assert again.existed
    assert again.adapter == pushed.adapter


async def test_a_name_belongs_to_one_version(
    live: LiveGateway, good: Upload, tiny_adapter_folders: tuple[Path, Path]
) -> None:
    await push(live, good)
    other = Upload.of(tiny_adapter_folders[1], "good", live.base.base_digest)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await push(live, other)
    assert caught.value.code() is grpc.StatusCode.ALREADY_EXISTS
    assert [record.name for record in await live.registry.list_versions()] == ["base", "good"]


async def test_the_base_version_has_no_file(live: LiveGateway) -> None:
    stream = AdapterServiceStub(live.operator).DownloadAdapter(
        pb.DownloadAdapterRequest(version=live.base.id), metadata=OPERATOR
    )
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stream.read()
    assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION


async def test_versions_are_listed_and_retired(live: LiveGateway, good: Upload) -> None:
    stub = AdapterServiceStub(live.operator)
    version = (await push(live, good)).adapter.id
    page = await stub.ListAdapters(pb.ListAdaptersRequest(page_size=1), metadata=OPERATOR)
    assert [adapter.id for adapter in page.adapters] == [version]
    rest = await stub.ListAdapters(
        pb.ListAdaptersRequest(page_size=1, page_token=page.next_page_token), metadata=OPERATOR
    )
    assert [adapter.id for adapter in rest.adapters] == [live.base.id]
    assert rest.next_page_token == ""
    retired = await stub.RetireAdapter(pb.RetireAdapterRequest(version="good"), metadata=OPERATOR)
    assert retired.adapter.state == pb.VERSION_STATE_RETIRED
    left = await stub.ListAdapters(pb.ListAdaptersRequest(), metadata=OPERATOR)
    assert [adapter.id for adapter in left.adapters] == [live.base.id]


async def test_pushing_a_known_adapter_again_restores_its_files(
    live: LiveGateway, good: Upload, tiny_adapter_folders: tuple[Path, Path]
) -> None:
    second = Upload.of(tiny_adapter_folders[1], "second", live.base.base_digest)
    pushed = await push(live, second)
    blob = (await live.registry.get_version(pushed.adapter.id)).blob
    live.blobs.delete(f"{blob}/adapter_model.safetensors")
    assert (await push(live, second)).existed
    assert live.blobs.get_bytes(f"{blob}/adapter_model.safetensors") == second.tensors


async def test_files_stay_when_another_push_took_the_name(
    live: LiveGateway, good: Upload, monkeypatch: pytest.MonkeyPatch
) -> None:
    def change(tensors: dict[str, torch.Tensor]) -> None:
        next(iter(tensors.values()))[0, 0] = 0.25

    put_version = live.registry.put_version

    async def taken_first(record: VersionRecord) -> VersionRecord:
        await put_version(replace(record, id="b2" * 32))
        return await put_version(record)

    monkeypatch.setattr(live.registry, "put_version", taken_first)
    before = len(live.blobs.list_keys("adapters"))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await push(live, replace(with_tensors(good, change), name="contested"))
    assert caught.value.code() is grpc.StatusCode.ALREADY_EXISTS
    assert len(live.blobs.list_keys("adapters")) == before + 2  # the same bytes may be under way elsewhere


def fill(spool: Spool) -> None:
    """An upload that meets a full disk."""
    with spool.folder() as folder, Path("/dev/full").open("wb") as full:
        (folder / "begun").write_bytes(b"a")
        full.write(b"a" * 2**16)


async def test_a_full_disk_is_named_and_nothing_is_left(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool" / "gateway")
    spool.sweep()
    with pytest.raises(Unavailable, match=r"No space left on device.*disk space"):
        fill(spool)
    assert not list((tmp_path / "spool" / "gateway").iterdir())
