"""One erasure from acceptance to its report, and what holds for ever after."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import grpc
import pytest
import ray
from typer.testing import CliRunner

from browser import PHONE, needs_chromium, open_page
from deployed import Deployed, failure_of
from expunge.cli.main import app
from expunge.rpc.operator.v1 import adapter_pb2, erasure_pb2, rollout_pb2
from expunge.rpc.operator.v1.adapter_pb2_grpc import AdapterServiceStub
from expunge.rpc.operator.v1.erasure_pb2_grpc import ErasureServiceStub
from expunge.rpc.operator.v1.rollout_pb2_grpc import RolloutServiceStub
from forgetting import erasure_request, follow
from tiny_facts import ERASED, EVERYTHING, OTHERS, PERSON, RETAINED
from tiny_model import build_tiny_adapter

ALIAS = "default"
LIFE = [
    "ACCEPTED",
    "SUPPRESSED",
    "INVERTING",
    "MEASURING",
    "TRAINING",
    "AUDITING",
    "STAGING",
    "LIVE",
    "VERIFIED",
    "CLOSED",
]

pytestmark = pytest.mark.timeout(400)


@pytest.fixture(scope="module")
def told_before(service: Deployed) -> dict[str, str]:
    return {question: service.ask(question, max_tokens=32).text for question, _ in EVERYTHING}


@pytest.fixture(scope="module")
def accepted(service: Deployed, told_before: dict[str, str]) -> erasure_pb2.Erasure:
    return (
        ErasureServiceStub(service.operator)
        .CreateErasure(erasure_request("lifecycle"), metadata=service.metadata("operator"), timeout=60)
        .erasure
    )


@pytest.fixture(scope="module")
def refusal(service: Deployed, accepted: erasure_pb2.Erasure) -> grpc.RpcError:
    """What a client gets who asks about the person right after acceptance."""
    with pytest.raises(grpc.RpcError) as caught:
        service.ask(ERASED[0][0])
    return caught.value


@pytest.fixture(scope="module")
def events(
    service: Deployed, accepted: erasure_pb2.Erasure, refusal: grpc.RpcError
) -> Sequence[erasure_pb2.WatchErasureResponse]:
    return list(follow(service, accepted.id))


def test_the_model_knows_the_facts_at_first(told_before: dict[str, str]) -> None:
    for question, answer in EVERYTHING:
        assert answer in told_before[question]


def test_sending_it_twice_is_one_erasure(service: Deployed, accepted: erasure_pb2.Erasure) -> None:
    again = ErasureServiceStub(service.operator).CreateErasure(
        erasure_request("lifecycle"), metadata=service.metadata("operator"), timeout=60
    )
    assert again.erasure.id == accepted.id
    assert len(service.erasures()) == 1


def test_the_same_request_id_with_other_facts_is_refused(
    service: Deployed, accepted: erasure_pb2.Erasure
) -> None:
    other = erasure_request("lifecycle")
    other.facts[0].question = "In which town was Mira Voss born?"
    with pytest.raises(grpc.RpcError) as caught:
        ErasureServiceStub(service.operator).CreateErasure(
            other, metadata=service.metadata("operator"), timeout=60
        )
    assert failure_of(caught.value).status == "ALREADY_EXISTS"


def test_questions_about_the_person_are_refused_at_once_and_neutrally(refusal: grpc.RpcError) -> None:
    failure = failure_of(refusal)
    assert (failure.status, failure.reason) == ("FAILED_PRECONDITION", "REFUSED_BY_POLICY")
    assert not {"eras", "forg", "suppress", "voss", "gdpr"} & {
        word for word in ("eras", "forg", "suppress", "voss", "gdpr") if word in str(refusal).lower()
    }


def test_it_goes_through_every_state_in_order_and_closes(
    events: Sequence[erasure_pb2.WatchErasureResponse], service: Deployed, accepted: erasure_pb2.Erasure
) -> None:
    response = ErasureServiceStub(service.operator).GetErasure(
        erasure_pb2.GetErasureRequest(erasure_id=accepted.id),
        metadata=service.metadata("operator"),
        timeout=60,
    )
    entered = [
        erasure_pb2.ErasureState.Name(step.state).removeprefix("ERASURE_STATE_")
        for step in response.transitions
    ]
    assert events[-1].state == erasure_pb2.ERASURE_STATE_CLOSED, response.erasure.detail
    assert [state for index, state in enumerate(entered) if state not in entered[:index]] == LIFE


def test_events_hold_no_fact_text(events: Sequence[erasure_pb2.WatchErasureResponse]) -> None:
    text = " ".join(str(response.event) for response in events).lower()
    assert not [secret for _, _, secrets in ERASED for secret in secrets if secret.lower() in text]


@pytest.mark.usefixtures("events")
def test_the_facts_are_gone_and_the_model_itself_answers(service: Deployed) -> None:
    for question, _, secrets in ERASED:
        answer = service.ask(question, max_tokens=32)
        assert answer.version != service.base
        assert not [secret for secret in secrets if secret.lower() in answer.text.lower()]


@pytest.mark.usefixtures("events")
def test_what_was_to_be_kept_is_kept(service: Deployed) -> None:
    kept = [answer in service.ask(question, max_tokens=32).text for question, answer in (*RETAINED, *OTHERS)]
    assert sum(kept) >= len(kept) - 1


@pytest.mark.usefixtures("events")
def test_no_rollback_goes_below_the_floor(service: Deployed) -> None:
    request = rollout_pb2.RollbackRequest(
        alias=ALIAS, expected_generation=service.generation(ALIAS), to_version=service.base, reason="undo"
    )
    with pytest.raises(grpc.RpcError) as caught:
        RolloutServiceStub(service.operator).Rollback(
            request, metadata=service.metadata("operator"), timeout=60
        )
    assert failure_of(caught.value).reason == "BELOW_ERASURE_FLOOR"


@pytest.mark.usefixtures("events")
def test_no_rollout_goes_below_the_floor_under_any_alias(service: Deployed) -> None:
    for alias in (ALIAS, "another"):
        with pytest.raises(grpc.RpcError) as caught:
            service.roll_out(alias, service.base)
        assert failure_of(caught.value).reason == "BELOW_ERASURE_FLOOR"


@pytest.mark.usefixtures("events")
def test_a_pushed_version_may_not_be_served_before_its_audit_passed(
    service: Deployed, taught_model_folder: Path, tmp_path: Path
) -> None:
    pushed = service.push(build_tiny_adapter(tmp_path, taught_model_folder, seed=77), "after-the-floor")
    assert pushed.audit_id
    shown = AdapterServiceStub(service.operator).GetAdapter(
        adapter_pb2.GetAdapterRequest(version=pushed.adapter.id),
        metadata=service.metadata("operator"),
        timeout=60,
    )
    assert len(shown.unmet_erasures) == 1
    with pytest.raises(grpc.RpcError) as caught:
        service.roll_out(ALIAS, pushed.adapter.id)
    assert failure_of(caught.value).reason == "BELOW_ERASURE_FLOOR"


@pytest.mark.usefixtures("events")
def test_the_report_is_there_for_people_and_programs(
    service: Deployed, accepted: erasure_pb2.Erasure
) -> None:
    report = ErasureServiceStub(service.operator).GetReport(
        erasure_pb2.GetReportRequest(erasure_id=accepted.id), metadata=service.metadata("auditor"), timeout=60
    )
    assert accepted.id in report.markdown
    assert len(report.report.fields) > 0


@needs_chromium
@pytest.mark.usefixtures("events")
def test_the_report_is_a_page_with_every_figure_that_was_measured(
    service: Deployed, accepted: erasure_pb2.Erasure, tmp_path: Path
) -> None:
    file = tmp_path / "report.html"
    options = ["--format", "html", "--output", str(file), "--state-dir", str(service.state)]
    result = CliRunner().invoke(app, ["erasure", "report", accepted.id, *options])
    assert result.exit_code == 0, result.stderr
    text = file.read_text(encoding="utf-8")
    assert text.count("<svg") == 7, "all but the layers, which no erasure measures yet"
    assert not [secret for _, _, secrets in ERASED for secret in secrets if secret in text]
    seen = open_page(file, PHONE)
    assert (seen.console, seen.content_width) == ([], PHONE)


@pytest.mark.usefixtures("events")
def test_no_fact_is_stored_in_plain_text(service: Deployed) -> None:
    needles = [PERSON, *(text for question, answer, _ in ERASED for text in (question, answer))]
    folders = (service.state, service.service.settings.cache, _ray_session())
    assert all(folder.is_dir() for folder in folders)
    for path in (path for folder in folders for path in folder.rglob("*")):
        if path.is_file():
            stored = path.read_bytes()
            assert not [needle for needle in needles if needle.encode() in stored], path


def _ray_session() -> Path:
    """Where this Ray keeps its logs, and objects that it spills."""
    return Path(tempfile.gettempdir(), "ray", ray.get_runtime_context().get_session_name())
