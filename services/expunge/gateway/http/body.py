"""The body of an HTTP request: bounded in bytes and time, UTF-8, and JSON."""

from __future__ import annotations

import asyncio
import json
from typing import Any, NoReturn

from fastapi import Request
from starlette.requests import ClientDisconnect

from expunge.errors import Cancelled, InvalidRequest
from expunge.gateway.http.errors import TooLarge, TooSlow

MAX_BODY_BYTES = 2**20  # as a message of the gRPC inference port
BODY_S = 30.0


async def json_object(request: Request) -> dict[str, Any]:
    """The JSON object that `request` carries.

    Raises:
        TooLarge: it is over 1 MiB; no more than that is read.
        TooSlow: it has not arrived within half a minute.
        InvalidRequest: it is no UTF-8, no JSON, or no object.
    """
    try:
        async with asyncio.timeout(BODY_S):
            data = await _bytes(request)
    except ClientDisconnect as error:
        raise Cancelled("the client went away") from error
    except TimeoutError as error:
        raise TooSlow(f"the body did not arrive within {BODY_S:g} s; send it at once") from error
    try:
        parsed = json.loads(data.decode(), parse_constant=_refuse_constant)
        json.dumps(parsed, ensure_ascii=False).encode()  # an escaped half of a character is no text
    except UnicodeError as error:
        raise InvalidRequest("the body holds something that is no Unicode text; send UTF-8") from error
    except RecursionError as error:
        raise InvalidRequest("the body's JSON is nested too deeply") from error
    except ValueError as error:
        raise InvalidRequest(f"the body is no valid JSON: {error}") from error
    if not isinstance(parsed, dict):
        raise InvalidRequest("the body must be a JSON object")
    return parsed


async def _bytes(request: Request) -> bytes:
    announced = request.headers.get("content-length", "0")
    if announced.isdecimal() and int(announced) > MAX_BODY_BYTES:
        raise _too_large()
    data = bytearray()
    async for chunk in request.stream():
        data += chunk
        if len(data) > MAX_BODY_BYTES:
            raise _too_large()
    return bytes(data)


def _too_large() -> TooLarge:
    return TooLarge(f"the body is over {MAX_BODY_BYTES:,} bytes; send less")


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")
