"""`expunge adapter`: push, list, show, retire and download adapter versions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

from expunge.cli.messages import as_dict, enum_word, moment, short
from expunge.cli.session import Session, command
from expunge.errors import DataLoss, FailedPrecondition, InvalidRequest
from expunge.rpc.operator.v1 import adapter_pb2 as pb
from expunge.rpc.operator.v1.adapter_pb2_grpc import AdapterServiceStub

CHUNK = 1 << 20  # bytes; the largest the service takes
WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"

app = typer.Typer(help="Adapter versions: immutable LoRA adapters in PEFT's format.", no_args_is_help=True)

VersionName = Annotated[str, typer.Argument(help="Version id or name.")]


def upload(folder: Path, header: pb.AdapterHeader) -> Iterator[pb.PushAdapterRequest]:
    """The messages of one upload: the header, then the file in chunks."""
    yield pb.PushAdapterRequest(header=header)
    with (folder / WEIGHTS).open("rb") as file:
        while chunk := file.read(CHUNK):
            yield pb.PushAdapterRequest(chunk=chunk)


def header_of(folder: Path, name: str, base_digest: str, parent: str = "") -> pb.AdapterHeader:
    """Describes the adapter in `folder`.

    Raises:
        InvalidRequest: the folder lacks one of PEFT's two files.
    """
    missing = [name for name in (WEIGHTS, CONFIG) if not (folder / name).is_file()]
    if missing:
        raise InvalidRequest.of(
            "folder", f"{folder} has no {' and no '.join(missing)}; name a folder PEFT has saved to"
        )
    with (folder / WEIGHTS).open("rb") as file:
        digest = sha256()
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return pb.AdapterHeader(
        name=name,
        sha256=digest.hexdigest(),
        size_bytes=(folder / WEIGHTS).stat().st_size,
        base_digest=base_digest,
        config_json=(folder / CONFIG).read_bytes(),
        parent=parent,
    )


def base_digest_of(stub: AdapterServiceStub, session: Session) -> str:
    """The manifest digest of the base model that is served.

    Raises:
        FailedPrecondition: none has been registered yet.
    """
    for item in session.listed(stub.ListAdapters, pb.ListAdaptersRequest()).adapters:
        if item.kind == pb.VERSION_KIND_BASE:
            return str(item.base_digest)
    raise FailedPrecondition("no base model has been registered yet; start the service first")


@command(app, "push")
def push(
    session: Session,
    folder: Annotated[Path, typer.Argument(help=f"Folder with {WEIGHTS} and {CONFIG}.")],
    name: Annotated[str, typer.Option(help="Name of the version; empty: the folder's name.")] = "",
    base_digest: Annotated[
        str, typer.Option(help="Digest of its base model; empty: that of the served one.")
    ] = "",
    parent: Annotated[str, typer.Option(help="Version it was trained from.")] = "",
) -> None:
    """Upload an adapter; nothing is visible until it has been validated."""
    with session.operator_channel() as channel:
        stub = AdapterServiceStub(channel)
        header = header_of(
            folder, name or folder.resolve().name, base_digest or base_digest_of(stub, session), parent
        )
        response = stub.PushAdapter(
            upload(folder, header), metadata=session.metadata("operator"), timeout=session.timeout_s
        )
    session.out.document(as_dict(response))
    adapter = response.adapter
    verb = "was there already" if response.existed else "is stored"
    session.out.say(f"[green]✓[/] {escape(adapter.name)} {verb} as version [bold]{adapter.id}[/]")
    if response.audit_id:
        session.out.say(
            f"  audit {response.audit_id} must pass first: `expunge audit show {response.audit_id}`"
        )


@command(app, "list")
def list_adapters(
    session: Session,
    retired: Annotated[bool, typer.Option("--retired", help="Retired versions, too.")] = False,
) -> None:
    """List versions, newest first."""
    with session.operator_channel() as channel:
        request = pb.ListAdaptersRequest(include_retired=retired)
        response = session.listed(AdapterServiceStub(channel).ListAdapters, request)
    session.out.document(as_dict(response))
    rows = [
        (short(item.id), item.name, item.rank or "-", item.source, _state(item), moment(item.created_at))
        for item in response.adapters
    ]
    session.out.table(("version", "name", "rank", "source", "state", "created"), rows, empty="No versions.")


@command(app, "show")
def show(session: Session, version: VersionName) -> None:
    """Show one version and which erasures it does not meet yet."""
    with session.operator_channel() as channel:
        response = AdapterServiceStub(channel).GetAdapter(
            pb.GetAdapterRequest(version=version),
            metadata=session.metadata("operator"),
            timeout=session.timeout_s,
        )
    session.out.document(as_dict(response))
    adapter = response.adapter
    unmet = ", ".join(response.unmet_erasures)
    session.out.fields(
        {
            "version": adapter.id,
            "name": adapter.name,
            "kind": enum_word(pb.VersionKind.DESCRIPTOR, adapter.kind),
            "base": adapter.base_digest,
            "rank": adapter.rank,
            "bytes": adapter.size_bytes,
            "parent": adapter.parent or "-",
            "source": adapter.source,
            "state": _state(adapter),
            "created": moment(adapter.created_at),
            "may be served": f"no, it does not meet {unmet}" if unmet else "yes",
        }
    )


@command(app, "retire")
def retire(session: Session, version: VersionName) -> None:
    """Take a version out of use for good."""
    with session.operator_channel() as channel:
        response = AdapterServiceStub(channel).RetireAdapter(
            pb.RetireAdapterRequest(version=version),
            metadata=session.metadata("operator"),
            timeout=session.timeout_s,
        )
    session.out.document(as_dict(response))
    session.out.say(f"[green]✓[/] {escape(response.adapter.name)} is retired")


@command(app, "download")
def download(
    session: Session,
    version: VersionName,
    folder: Annotated[Path, typer.Argument(help="Where to write the two files; made when missing.")],
) -> None:
    """Fetch an adapter's files in PEFT's format."""
    with session.operator_channel() as channel:
        parts = AdapterServiceStub(channel).DownloadAdapter(
            pb.DownloadAdapterRequest(version=version),
            metadata=session.metadata("operator"),
            timeout=session.timeout_s,
        )
        header = receive(parts, folder, session)
    session.out.document({"name": header.name, "sha256": header.sha256, "folder": str(folder)})
    session.out.say(f"[green]✓[/] {escape(header.name)} is in {escape(str(folder))}")


def receive(
    messages: Iterable[pb.DownloadAdapterResponse], folder: Path, session: Session | None = None
) -> pb.AdapterHeader:
    """Writes one download into `folder`; the weights appear under their name only once their digest matches.

    Raises:
        DataLoss: the bytes do not match the digest the service declared.
    """
    parts = iter(messages)
    header = next(parts).header
    folder.mkdir(parents=True, exist_ok=True)
    fresh = folder / f"{WEIGHTS}.part"
    digest = sha256()
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    with (
        fresh.open("wb") as file,
        Progress(*columns, disable=session is None or not session.out.is_live) as bars,
    ):
        bar = bars.add_task(header.name, total=header.size_bytes)
        for part in parts:
            digest.update(part.chunk)
            file.write(part.chunk)
            bars.advance(bar, len(part.chunk))
    if digest.hexdigest() != header.sha256:
        fresh.unlink()
        raise DataLoss(
            f"{header.name} arrived damaged: sha256 {digest.hexdigest()}, declared {header.sha256}; try again"
        )
    (folder / CONFIG).write_bytes(header.config_json)
    fresh.replace(folder / WEIGHTS)
    return header


def _state(item: pb.AdapterVersion) -> str:
    return enum_word(pb.VersionState.DESCRIPTOR, item.state)
