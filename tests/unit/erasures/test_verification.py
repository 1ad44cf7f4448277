from dataclasses import replace

import pytest

from expunge.auditing.probes import ProbedFact, ProbeKind
from expunge.erasures.credential import verification_key
from expunge.erasures.verification import MAX_PROBES, LiveVerifier, gateway_addresses
from expunge.errors import Unavailable
from expunge.facts import ErasureKind, Fact, ForgetRequest, Subject
from expunge.registry.addresses import Addresses
from expunge.registry.records import MemberKind, MemberStatus

from .conftest import Run
from .served_registry import TAUGHT, forget


async def test_a_version_that_tells_is_found_out_fact_by_fact(idle: Run) -> None:
    erasure = await idle.accept()
    found = await _verify(idle, erasure.id, forget())
    assert found.is_complete
    assert set(found.leaks) == {"home", "work"}
    assert "direct" in found.leaks["home"]


async def test_a_version_that_has_forgotten_passes(idle: Run) -> None:
    idle.service.gateway.telling.clear()
    erasure = await idle.accept()
    found = await _verify(idle, erasure.id, forget())
    assert found.is_complete
    assert not found.leaks
    assert found.asked >= 12


async def test_the_credential_passes_no_other_guard(idle: Run) -> None:
    idle.service.gateway.telling.clear()
    erasure = await idle.accept()
    await idle.accept(2)
    found = await _verify(idle, erasure.id, forget())
    assert found.refused > 0
    assert not found.is_complete


async def test_answers_of_another_version_verify_nothing(idle: Run) -> None:
    erasure = await idle.accept()
    found = await _verify(idle, erasure.id, forget(), version="somebody-else")
    assert (found.answered, found.other_version) == (0, found.asked)
    assert not found.leaks


async def test_a_gateway_that_does_not_answer_verifies_nothing(
    idle: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("expunge.erasures.verification._FIRST_DELAY_S", 0.001)
    verifier = LiveVerifier(verification_key(idle.service.settings))
    found = await verifier.verify("e", forget(), {"default": "v"}, ["127.0.0.1:1"])
    assert (found.unanswered, found.answered) == (found.asked, 0)


async def test_without_a_gateway_there_is_nothing_to_ask(idle: Run) -> None:
    with pytest.raises(Unavailable, match="no gateway"):
        await LiveVerifier(b"k" * 32).verify("e", forget(), {"default": "v"}, [])


def test_many_facts_are_thinned_out_evenly() -> None:
    facts = tuple(Fact(f"f{n}", f"Where does person {n} live?", f"In Quill Lane {n}7x.") for n in range(1200))
    verifier = LiveVerifier(b"k" * 32)
    request = ForgetRequest("r", ErasureKind.PERSONAL_DATA, (Subject("Mara"),), facts)
    asked = [fact.fact.id for fact, _ in verifier.probes(request)]
    assert asked == [f"f{n}" for n in range(0, 1200, 3)]
    few = verifier.probes(replace(request, facts=facts[:100]))
    assert {fact.fact.id for fact, _ in few} == {f"f{n}" for n in range(100)}
    assert len(few) <= MAX_PROBES


def test_only_gateways_that_stay_are_asked() -> None:
    def member(kind: MemberKind, port: int, leaving: bool = False) -> MemberStatus:
        address = Addresses.of("host", port, 2, 3, 4).to_json()
        return MemberStatus(f"m{port}", kind, 1, (), {}, address, 0.0, leaving=leaving)

    members = [
        member(MemberKind.GATEWAY, 1),
        member(MemberKind.GATEWAY, 2, leaving=True),
        member(MemberKind.ENGINE, 3),
    ]
    assert gateway_addresses(members) == ("host:1",)


async def _verify(run: Run, erasure_id: str, request: ForgetRequest, version: str = TAUGHT.id):  # type: ignore[no-untyped-def]
    addresses = gateway_addresses(await run.service.registry.members())
    await run.service.registry.await_guard(erasure_id, 5.0)
    verifier = LiveVerifier(verification_key(run.service.settings))
    return await verifier.verify(erasure_id, request, {"default": version}, addresses)


@pytest.mark.parametrize(
    "answer", ["7" * 40, "DE89 3704 0044 0532 0130 00", "\u6771\u4eac" * 20, "Brennick."]
)
def test_a_reply_has_room_for_an_answer_of_one_token_a_character(answer: str) -> None:
    fact = ProbedFact(Fact("f", "What is it?", answer, secrets=(answer,)))
    assert LiveVerifier(b"k")._request("default", fact, fact.probes[0]).max_tokens >= len(answer)


async def test_the_beginning_of_the_answer_is_given_too(idle: Run) -> None:
    prefixes = [
        (fact, probe) for fact, probe in LiveVerifier(b"k").probes(forget()) if probe.kind is ProbeKind.PREFIX
    ]
    assert prefixes
    for fact, probe in prefixes:
        asked = LiveVerifier(b"k")._request("default", fact, probe)
        assert asked.continue_final_message
        assert (asked.messages[-1].role, asked.messages[-1].content) == ("assistant", probe.prefix)
    erasure = await idle.accept()
    found = await _verify(idle, erasure.id, forget())
    assert "prefix" in found.leaks["home"]


def test_replies_stay_within_what_a_gateway_allows() -> None:
    fact = ProbedFact(Fact("f", "What is it?", "word " * 800, secrets=("word",)))
    assert LiveVerifier(b"k", max_context=256)._request("default", fact, fact.probes[0]).max_tokens == 128
