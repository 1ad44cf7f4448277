"""What all commands share."""

from __future__ import annotations

from pathlib import Path

from expunge.cli.session import Session
from expunge.rpc.operator.v1 import erasure_pb2 as pb


def test_a_listing_has_the_entries_of_every_page(tmp_path: Path) -> None:
    pages = {
        "": pb.ListErasuresResponse(erasures=[pb.Erasure(id="c")], next_page_token="2"),
        "2": pb.ListErasuresResponse(erasures=[pb.Erasure(id="b")], next_page_token="3"),
        "3": pb.ListErasuresResponse(erasures=[pb.Erasure(id="a")]),
    }

    def call(request: pb.ListErasuresRequest, *, metadata: object, timeout: float) -> pb.ListErasuresResponse:
        return pages[request.page_token]

    whole = Session(state_dir=tmp_path).listed(call, pb.ListErasuresRequest())
    assert [erasure.id for erasure in whole.erasures] == ["c", "b", "a"]
    assert not whole.next_page_token
