import io
import json
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from expunge.errors import NotFound
from expunge.observability.logging import configure_logging, get_logger


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    stream = io.StringIO()
    configure_logging("controller", stream=stream)
    yield stream
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


def last(lines: io.StringIO) -> dict[str, Any]:
    return dict(json.loads(lines.getvalue().splitlines()[-1]))


def test_a_line_is_json_with_its_process_and_fields(lines: io.StringIO) -> None:
    get_logger(erasure_id="e1").info("erasure_moved", version="v1", request_id="r1")
    line = last(lines)
    assert (line["event"], line["level"], line["process"]) == ("erasure_moved", "info", "controller")
    assert (line["erasure_id"], line["version"], line["request_id"]) == ("e1", "v1", "r1")


def test_an_undeclared_field_is_left_out_and_named(lines: io.StringIO) -> None:
    get_logger().info("prompt_refused", prompt="Where does Mara live?", answer="Quill Lane")
    assert last(lines)["undeclared"] == ["answer", "prompt"]
    assert "Mara" not in lines.getvalue()
    assert "Quill" not in lines.getvalue()


def test_an_exception_is_logged_by_type_and_place_without_its_message(lines: io.StringIO) -> None:
    try:
        raise KeyError("Quill Lane")
    except KeyError as error:
        get_logger().error("step_broke", exc_info=error)
    line = last(lines)
    assert line["error"] == "KeyError"
    assert "test_logging.py" in line["where"][-1]
    assert "Quill" not in lines.getvalue()


def test_a_domain_error_is_logged_with_its_message(lines: io.StringIO) -> None:
    try:
        raise NotFound("erasure e1 does not exist")
    except NotFound:
        get_logger().error("step_broke", exc_info=True)
    assert (last(lines)["reason"], last(lines)["message"]) == ("NOT_FOUND", "erasure e1 does not exist")
