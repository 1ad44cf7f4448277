"""Proto messages as a person or a program reads them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from google.protobuf.descriptor import EnumDescriptor
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp


def as_dict(message: Message) -> dict[str, Any]:
    """The message with its own field names, every field present."""
    found: dict[str, Any] = MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    return found


def enum_word(descriptor: EnumDescriptor, number: int) -> str:
    """An enum value in lower case without the enum's own name: ERASURE_STATE_LIVE → live."""
    value = descriptor.values_by_number.get(number)
    if value is None:
        return str(number)
    return value.name.removeprefix(_prefix(descriptor)).lower()


def enum_number(descriptor: EnumDescriptor, word: str) -> int | None:
    """The number of such a word, or None."""
    value = descriptor.values_by_name.get(_prefix(descriptor) + word.strip().upper())
    return None if value is None else value.number


def enum_words(descriptor: EnumDescriptor) -> list[str]:
    """Every word of an enum but the unspecified one."""
    return [enum_word(descriptor, value.number) for value in descriptor.values if value.number]


def moment(timestamp: Timestamp) -> str:
    """Local date and time to the second, or "" when unset."""
    if not timestamp.seconds:
        return ""
    return datetime.fromtimestamp(timestamp.seconds, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def short(version: str) -> str:
    """The first letters of a version id, enough to tell versions apart on a screen."""
    kind, mark, digest = version.rpartition(":")
    return f"{kind}{mark}{digest[:12]}"


def _prefix(descriptor: EnumDescriptor) -> str:
    letters = [
        ("_" + letter) if letter.isupper() and index else letter
        for index, letter in enumerate(descriptor.name)
    ]
    return "".join(letters).upper() + "_"
