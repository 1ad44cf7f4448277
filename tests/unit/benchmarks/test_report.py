"""What a run says at its end."""

from __future__ import annotations

import io
import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image
from rich.console import Console

from expunge.benchmarks.serving.conditions import Conditions, cpu_model
from expunge.benchmarks.serving.flood import Flooded
from expunge.benchmarks.serving.footprint import Footprint
from expunge.benchmarks.serving.matrix import Cell
from expunge.benchmarks.serving.plot import draw
from expunge.benchmarks.serving.report import document, mixed_versions, ratios, summary, table
from expunge.benchmarks.serving.result_files import ResultFiles
from expunge.benchmarks.serving.run import ENGINE, EXPUNGE, FLOOD, ROLLOUTS, CellResult, Measured
from expunge.benchmarks.serving.statistics import Figures, Spread
from expunge.errors import InvalidRequest


def measured(tokens_per_s: float, first_p99: float = 0.5, **fields: object) -> Measured:
    whole: dict[str, object] = {
        "requests": 8,
        "errors": 0,
        "first_error": "",
        "seconds": 1.0,
        "output_tokens": 64,
        "tokens_per_s": tokens_per_s,
        "first_token_s": Spread(0.1, first_p99),
        "inter_token_s": Spread(0.0234, math.nan),
        "end_to_end_s": Spread(1.0, 2.0),
        "mixed_versions": 0,
        "short": 0,
        "prompt_tokens": (128, 128),
    }
    return Measured(Figures(**{**whole, **fields}), Footprint(1.5, 2048.0))  # type: ignore[arg-type]


RESULT = CellResult(
    Cell(8, 128, 4),
    0.0,
    {
        EXPUNGE: measured(300.0),
        ENGINE: measured(320.0),
        "vllm": measured(100.0),
        ROLLOUTS: measured(290.0, first_p99=0.6),
        FLOOD: replace(measured(150.0, first_p99=0.75), flood=Flooded(40, 12345)),
    },
)
CONDITIONS = Conditions(
    "a CPU", 2, 23.5, 0.1, "bundled", "float32", "3.11", "6.1", {"torch": "2"}, "expunge bench"
)


def test_the_service_is_held_against_everybody_else() -> None:
    found = ratios(RESULT)
    assert found["vllm"] == 3.0
    assert found[ENGINE] == 0.9375
    assert found[ROLLOUTS] == 1.2
    assert found[FLOOD] == 1.5


def test_the_document_is_valid_json_with_null_for_what_was_not_measured() -> None:
    found = json.loads(json.dumps(document(CONDITIONS, [RESULT]), allow_nan=False))
    (cell,) = found["cells"]
    assert cell["measured"][EXPUNGE]["figures"]["inter_token_s"] == {"p50": 0.0234, "p99": None}
    assert (cell["streams"], cell["prompt_tokens"], cell["adapters"]) == (8, 128, 4)
    assert found["conditions"]["command"] == "expunge bench"


def test_the_table_shows_every_contender_of_a_cell() -> None:
    page = Console(width=124, file=io.StringIO(), record=True)
    page.print(table([RESULT]))
    text = page.export_text()
    assert "8 streams, 128 tok, 4 adapters" in text
    for name in (EXPUNGE, ENGINE, "vllm", "300.0", "100/500", "23.4/-", "3.00", "flood, 12345 refused"):
        assert name in text
    assert "…" not in text


def test_what_must_not_be_is_told_below_the_table() -> None:
    bad = measured(1.0, errors=2, first_error="UNAVAILABLE: gone", mixed_versions=1, prompt_tokens=(129, 130))
    lines = "\n".join(summary([CellResult(Cell(1, 128, 0), 0.0, {EXPUNGE: bad})]))
    assert "more than one version: 1" in lines
    assert "failed requests: 2" in lines
    assert "UNAVAILABLE: gone" in lines
    assert "129 to 130 tokens" in lines
    assert mixed_versions([CellResult(Cell(1, 128, 0), 0.0, {EXPUNGE: bad})]) == 1


def test_the_plot_is_a_picture_of_all_cells(tmp_path: Path) -> None:
    opened = CellResult(Cell(0, 128, 0), 2.5, {EXPUNGE: measured(50.0)})
    draw([RESULT, opened], CONDITIONS, tmp_path / "serving.png")
    with Image.open(tmp_path / "serving.png") as picture:
        assert picture.format == "PNG"
        assert picture.width > 600
        assert len(picture.convert("RGB").getcolors(2**20) or ()) > 4, "one colour for each contender"


def test_the_processor_is_named(tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text("processor : 0\nmodel name\t: Some CPU @ 2 GHz\n")
    assert cpu_model(tmp_path / "cpuinfo") == "Some CPU @ 2 GHz"
    assert cpu_model(tmp_path / "none")


def test_every_cell_is_on_disk_once_it_is_measured(tmp_path: Path) -> None:
    files = ResultFiles(tmp_path / "new" / "folder", CONDITIONS, with_plot=False)
    for cells in (1, 2):
        files.add(RESULT)
        (written,) = files.folder.iterdir()
        assert json.loads(written.read_text()) == document(CONDITIONS, [RESULT] * cells)


def test_a_folder_that_cannot_be_made_is_told_before_anything_is_measured(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidRequest, match=r"out: .*can't be made"):
        ResultFiles(tmp_path / "file" / "folder", CONDITIONS, with_plot=False)
