"""Every faulty adapter is refused with the right status, a message naming the fault, and no trace."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import grpc
import pytest
import torch
from safetensors.torch import load_file, save_file

from deployed import Deployed, failure_of
from expunge.cli.adapter import CHUNK, CONFIG, WEIGHTS
from expunge.rpc.operator.v1 import adapter_pb2 as pb

INVALID, DATA_LOSS = "INVALID_ARGUMENT", "DATA_LOSS"


@dataclass
class Upload:
    """What is sent: the true adapter, until a fault is planted."""

    name: str
    weights: bytes
    config: dict[str, object]
    base_digest: str
    sha256: str = ""
    size_bytes: int = -1

    def messages(self) -> Iterator[pb.PushAdapterRequest]:
        yield pb.PushAdapterRequest(
            header=pb.AdapterHeader(
                name=self.name,
                sha256=self.sha256 or sha256(self.weights).hexdigest(),
                size_bytes=len(self.weights) if self.size_bytes < 0 else self.size_bytes,
                base_digest=self.base_digest,
                config_json=json.dumps(self.config).encode(),
            )
        )
        for start in range(0, len(self.weights), CHUNK):
            yield pb.PushAdapterRequest(chunk=self.weights[start : start + CHUNK])


def tensors(change: Callable[[dict[str, torch.Tensor]], None]) -> Callable[[Upload, Path], None]:
    """A fault in the tensors, saved as well-formed safetensors."""

    def plant(upload: Upload, folder: Path) -> None:
        found = load_file(folder / WEIGHTS)
        change(found)
        save_file(found, folder / WEIGHTS)
        upload.weights = (folder / WEIGHTS).read_bytes()

    return plant


def config(**values: object) -> Callable[[Upload, Path], None]:
    return lambda upload, folder: upload.config.update(values)


def header(**values: object) -> Callable[[Upload, Path], None]:
    def plant(upload: Upload, folder: Path) -> None:
        for name, value in values.items():
            setattr(upload, name, value)

    return plant


def pickled(upload: Upload, folder: Path) -> None:
    buffer = io.BytesIO()
    torch.save(load_file(folder / WEIGHTS), buffer)
    upload.weights = buffer.getvalue()


def cut_short(upload: Upload, folder: Path) -> None:
    upload.weights = upload.weights[: len(upload.weights) // 2]


def lost_on_the_way(upload: Upload, folder: Path) -> None:
    upload.sha256, upload.size_bytes = sha256(upload.weights).hexdigest(), len(upload.weights)
    cut_short(upload, folder)


def larger_than_declared(upload: Upload, folder: Path) -> None:
    upload.size_bytes = len(upload.weights) - 100


def wrong_shape(found: dict[str, torch.Tensor]) -> None:
    name = next(name for name in found if "lora_B" in name)
    found[name] = torch.zeros(found[name].shape[0] + 1, found[name].shape[1])


def not_a_number(found: dict[str, torch.Tensor]) -> None:
    next(iter(found.values()))[0, 0] = float("nan")


def extra_tensor(found: dict[str, torch.Tensor]) -> None:
    found["base_model.model.lm_head.weight"] = torch.zeros(4, 4)


def missing_factor(found: dict[str, torch.Tensor]) -> None:
    del found[next(name for name in found if "lora_B" in name)]


FAULTS = {
    "pickle": (pickled, INVALID, "safetensors"),
    "truncated file": (cut_short, INVALID, "safetensors"),
    "truncated upload": (lost_on_the_way, DATA_LOSS, "declared"),
    "wrong digest": (header(sha256="0" * 64), DATA_LOSS, "sha256"),
    "wrong base": (header(base_digest="f" * 64), INVALID, "base"),
    "wrong shape": (tensors(wrong_shape), INVALID, "the base model has"),
    "NaN": (tensors(not_a_number), INVALID, "finite"),
    "extra tensor": (tensors(extra_tensor), INVALID, "lm_head"),
    "missing factor": (tensors(missing_factor), INVALID, "lora_B"),
    "path traversal": (header(name="../../etc/cron.d/adapter"), INVALID, "name"),
    "absolute path": (header(name="/tmp/adapter"), INVALID, "name"),
    "larger than declared": (larger_than_declared, INVALID, "larger than"),
    "too large": (header(size_bytes=2**40), INVALID, "size_bytes"),
    "DoRA": (config(use_dora=True), INVALID, "dora"),
    "modules_to_save": (config(modules_to_save=["lm_head"]), INVALID, "modules_to_save"),
    "bias": (config(bias="all"), INVALID, "bias"),
    "unknown feature": (config(warp_drive=True), INVALID, "warp_drive"),
    "unknown target": (config(target_modules=["warp_proj"]), INVALID, "warp_proj"),
    "rank above the limit": (config(r=4096), INVALID, "rank"),
}


@pytest.fixture(scope="module", autouse=True)
def spoken(service: Deployed) -> str:
    return service.ask("Where was Mira Voss born?").text


@pytest.mark.parametrize("fault", FAULTS)
def test_a_bad_adapter_is_refused_and_leaves_nothing(
    fault: str, service: Deployed, adapter_folders: tuple[Path, Path], tmp_path: Path, spoken: str
) -> None:
    plant, status, named = FAULTS[fault]
    folder = Path(shutil.copytree(adapter_folders[0], tmp_path / "adapter"))
    upload = Upload(
        "bad-adapter",
        (folder / WEIGHTS).read_bytes(),
        json.loads((folder / CONFIG).read_text()),
        service.service.base.digest,
    )
    plant(upload, folder)
    versions, files = service.adapters(), service.stored_files()

    with pytest.raises(grpc.RpcError) as caught:
        service.send(upload.messages())

    failure = failure_of(caught.value)
    assert failure.status == status
    assert named.lower() in " ".join((failure.sentence, *failure.details)).lower()
    assert service.adapters() == versions
    assert service.stored_files() == files
    assert service.ask("Where was Mira Voss born?").text == spoken


def test_the_same_name_with_other_bytes_is_refused(
    service: Deployed, adapter_folders: tuple[Path, Path]
) -> None:
    first, second = adapter_folders
    service.push(first, "taken-name")
    with pytest.raises(grpc.RpcError) as caught:
        service.push(second, "taken-name")
    assert failure_of(caught.value).status == "ALREADY_EXISTS"


def test_the_same_bytes_pushed_again_are_the_same_version(
    service: Deployed, adapter_folders: tuple[Path, Path]
) -> None:
    once = service.push(adapter_folders[0], "pushed-twice")
    again = service.push(adapter_folders[0], "pushed-twice")
    assert again.existed
    assert again.adapter.id == once.adapter.id
