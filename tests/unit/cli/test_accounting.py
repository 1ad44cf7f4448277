"""Refusals about the person are expected while suppression is on; anything else unanswered failed."""

from __future__ import annotations

from expunge.cli.demo.accounting import LoadAccount, Suppression
from expunge.cli.demo.responses import About, Outcome, Response
from expunge.cli.demo.timeline import Timeline

SUPPRESSION = Suppression(accepted=100.0, confirmed=101.0, lifted=200.0)


def response(about: About, outcome: Outcome, sent: float) -> Response:
    return Response(about, outcome, sent, sent + 0.1, sent + 1.0)


def account(*responses: Response) -> LoadAccount:
    return LoadAccount(responses, SUPPRESSION, Timeline([]))


def test_a_refusal_about_the_person_during_suppression_is_expected() -> None:
    refused = response(About.PERSON, Outcome.REFUSED, 150)
    assert account(refused).refused == [refused]
    assert account(refused).failed == []


def test_a_running_stream_cut_off_by_the_guard_is_expected() -> None:
    cut = response(About.PERSON, Outcome.REFUSED, 99.5)
    assert account(cut).refused == [cut]


def test_a_refusal_about_others_failed() -> None:
    refused = response(About.OTHERS, Outcome.REFUSED, 150)
    assert account(refused).failed == [refused]


def test_a_refusal_before_acceptance_or_after_the_end_failed() -> None:
    early, late = (response(About.PERSON, Outcome.REFUSED, sent) for sent in (50, 210))
    assert account(early, late).failed == [early, late]


def test_an_answer_about_the_person_while_suppressed_slipped_through() -> None:
    slipped = response(About.PERSON, Outcome.ANSWERED, 150)
    assert account(slipped).slipped == [slipped]


def test_an_answer_about_the_person_before_the_guard_was_confirmed_did_not_slip() -> None:
    assert account(response(About.PERSON, Outcome.ANSWERED, 100.5)).slipped == []
