"""ErasureService: requests to forget, their progress and their reports."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

from expunge.config import Settings
from expunge.erasures.history import History
from expunge.erasures.machine import TRANSITIONS
from expunge.erasures.report import read_report
from expunge.erasures.validation import parse_forget_request
from expunge.errors import FailedPrecondition, InvalidRequest, StaleGeneration
from expunge.gateway.call import current_caller
from expunge.gateway.chain import Context
from expunge.gateway.names import check_reason
from expunge.gateway.operator.event_stream import EventStream
from expunge.gateway.operator.paging import newest_first, page_of
from expunge.gateway.operator.translation import (
    erasure_message,
    erasure_state,
    event_message,
    struct,
    timestamp,
)
from expunge.gateway.unbuilt import not_built
from expunge.gateway.upstream import RegistryUpstream
from expunge.registry.records import ErasureRecord, ErasureState, EventRecord
from expunge.rpc.operator.v1 import erasure_pb2 as pb
from expunge.rpc.operator.v1 import erasure_pb2_grpc as pb_grpc

_CANCEL_TRIES = 5


class ErasureService(pb_grpc.ErasureServiceServicer):
    """Accepts erasures and shows them; the controller drives them."""

    def __init__(
        self,
        registry: RegistryUpstream,
        stream: EventStream,
        settings: Settings,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._registry = registry
        self._stream = stream
        self._settings = settings
        self._clock = clock

    async def CreateErasure(
        self, request: pb.CreateErasureRequest, context: Context
    ) -> pb.CreateErasureResponse:
        known = [rollout.alias for rollout in await self._registry.list_rollouts()]
        parsed, aliases = await asyncio.to_thread(  # ten thousand facts take seconds
            parse_forget_request, _plain(request), known, self._clock(), self._settings
        )
        record = await self._registry.create_erasure(parsed, aliases, current_caller().principal)
        return pb.CreateErasureResponse(erasure=erasure_message(record))

    async def GetErasure(self, request: pb.GetErasureRequest, context: Context) -> pb.GetErasureResponse:
        record = await self._registry.get_erasure(request.erasure_id)
        history = await History.read(self._registry, record.id)
        transitions = [_transition(event, record) for event in history.transitions]
        return pb.GetErasureResponse(erasure=erasure_message(record), transitions=transitions)

    async def ListErasures(
        self, request: pb.ListErasuresRequest, context: Context
    ) -> pb.ListErasuresResponse:
        states = tuple(_state(value) for value in request.states)
        found = newest_first(await self._registry.list_erasures(states))
        page, token = page_of(found, request.page_size, request.page_token)
        return pb.ListErasuresResponse(
            erasures=[erasure_message(record) for record in page], next_page_token=token
        )

    async def WatchErasure(
        self, request: pb.WatchErasureRequest, context: Context
    ) -> AsyncIterator[pb.WatchErasureResponse]:
        record = await self._registry.get_erasure(request.erasure_id)
        topic = f"erasure:{record.id}"
        jobs = f"job:{record.id}-"
        # Jobs have topics of their own, so the whole log is read, but from the erasure's first event only.
        after = max(request.after_seq, await self._stream.first_seq(topic) - 1)
        state = await self._state_at(record, after)

        async def has_ended() -> bool:
            return (await self._registry.get_erasure(record.id)).state.is_final

        async for event in self._stream.events(
            "",
            after,
            wanted=lambda event: event.topic == topic or event.topic.startswith(jobs),
            has_ended=has_ended,
        ):
            state = _state_entered(event, record.id) or state
            yield pb.WatchErasureResponse(event=event_message(event), state=erasure_state(state))

    async def CancelErasure(
        self, request: pb.CancelErasureRequest, context: Context
    ) -> pb.CancelErasureResponse:
        check_reason(request.reason, required=True)
        for _ in range(_CANCEL_TRIES):
            record = await self._registry.get_erasure(request.erasure_id)
            if ErasureState.CANCELLED not in TRANSITIONS[record.state]:
                raise FailedPrecondition(
                    f"erasure {record.id} is {record.state}; only one that is not live yet, or has failed, "
                    "can be cancelled"
                )
            try:
                cancelled = await self._registry.advance_erasure(
                    record.id,
                    record.state,
                    ErasureState.CANCELLED,
                    detail=request.reason,
                    principal=current_caller().principal,
                )
            except StaleGeneration:  # it has moved on meanwhile: look again
                continue
            return pb.CancelErasureResponse(erasure=erasure_message(cancelled))
        raise StaleGeneration(f"erasure {request.erasure_id} keeps changing its state; try again")

    async def GetReport(self, request: pb.GetReportRequest, context: Context) -> pb.GetReportResponse:
        stored = await read_report(self._registry, request.erasure_id)
        return pb.GetReportResponse(report=struct(stored.report), markdown=stored.markdown)

    async def ExtendErasure(
        self, request: pb.ExtendErasureRequest, context: Context
    ) -> pb.ExtendErasureResponse:
        raise not_built("ExtendErasure")

    async def RefuseErasure(
        self, request: pb.RefuseErasureRequest, context: Context
    ) -> pb.RefuseErasureResponse:
        raise not_built("RefuseErasure")

    async def AcknowledgeRecipient(
        self, request: pb.AcknowledgeRecipientRequest, context: Context
    ) -> pb.AcknowledgeRecipientResponse:
        raise not_built("AcknowledgeRecipient")

    async def _state_at(self, record: ErasureRecord, after_seq: int) -> ErasureState:
        """The state that had been entered by event `after_seq`."""
        state = ErasureState.ACCEPTED
        for event in (await History.read(self._registry, record.id)).transitions:
            if event.seq <= after_seq:
                state = ErasureState(event.data["state"])
        return state


def _state(value: pb.ErasureState.ValueType) -> ErasureState:
    try:
        return ErasureState[pb.ErasureState.Name(value).removeprefix("ERASURE_STATE_")]
    except (KeyError, ValueError) as error:
        raise InvalidRequest.of("states", f"{value} is not a state an erasure can be in") from error


def _plain(request: pb.CreateErasureRequest) -> dict[str, Any]:
    """The message as the mapping that validation reads; what is unset is left out."""
    plain: dict[str, Any] = {
        "request_id": request.request_id,
        "subjects": [
            {"name": subject.name, "other_names": list(subject.other_names)} for subject in request.subjects
        ],
        "facts": [
            {
                "id": fact.id,
                "question": fact.question,
                "answer": fact.answer,
                "secrets": list(fact.secrets),
                "paraphrases": list(fact.paraphrases),
                "subject": fact.subject,
            }
            for fact in request.facts
        ],
        "retain": [{"question": item.question, "answer": item.answer} for item in request.retain],
        "aliases": list(request.aliases),
        "ground": request.ground,
        "due_at": request.due_at,
    }
    known = request.kind in pb.ErasureKind.values()
    name = pb.ErasureKind.Name(request.kind) if known else str(request.kind)
    plain["kind"] = name.removeprefix("ERASURE_KIND_").lower()
    return plain


def _state_entered(event: EventRecord, erasure_id: str) -> ErasureState | None:
    """The state that an event says was entered, if it says so."""
    if event.topic != f"erasure:{erasure_id}":
        return None
    return ErasureState(event.data["state"]) if event.kind in ("accepted", "state") else None


def _transition(event: EventRecord, record: ErasureRecord) -> pb.StateTransition:
    known = ("state", "from", "detail")
    return pb.StateTransition(
        state=erasure_state(ErasureState(event.data["state"])),
        at=timestamp(event.at),
        seconds=max(0.0, event.at - record.created_at),
        detail=str(event.data.get("detail", "")),
        data=struct({key: value for key, value in event.data.items() if key not in known}),
    )
