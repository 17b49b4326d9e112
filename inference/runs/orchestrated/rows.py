"""Runs and their steps in Postgres; they let another process go on with a run."""

from typing import Any

import msgspec
from django.utils import timezone

from inference.models import OrchestrationRun, RunStep
from inference.orchestration.stage import Call, Said
from inference.orders.cast import Cast, Member
from inference.orders.order import Order
from inference.orders.requests import ChatRequest
from inference.principal import Principal
from models_registry.rules.mode_settings import read_settings


class Frozen(msgspec.Struct, frozen=True):
    """All that a run needs to go on; its members keep their versions."""

    request: ChatRequest
    principal: Principal
    mode: str
    settings: dict[str, Any]
    members: tuple[Member, ...]
    name: str
    preset: str
    requested_mode: str

    @property
    def cast(self) -> Cast:
        settings = read_settings(self.mode, self.settings)
        return Cast(self.mode, settings, self.members, self.name, self.preset, self.requested_mode)


def create(order: Order, request: ChatRequest, cast: Cast, principal: Principal) -> None:
    """Store a new run."""
    frozen = Frozen(
        request,
        principal,
        cast.mode,
        msgspec.to_builtins(cast.settings),
        cast.members,
        cast.name,
        cast.preset,
        cast.requested_mode,
    )
    OrchestrationRun.objects.create(
        id=order.run_id,
        user_id=principal.user_id,
        end_user=order.end_user,
        mode=cast.mode,
        preset=cast.preset,
        model=cast.name,
        frozen=msgspec.msgpack.encode(frozen),
    )


def find(run_id: str) -> Frozen | None:
    """The run, to go on with it; None if it has ended."""
    row = OrchestrationRun.objects.filter(id=run_id, state=OrchestrationRun.State.RUNNING).first()
    return None if row is None else msgspec.msgpack.decode(bytes(row.frozen), type=Frozen)


def begin_step(run_id: str, call: Call, generation_id: str) -> tuple[RunStep, Said | None]:
    """The newest attempt at a call, with its outcome if it has one; else a new row."""
    latest = RunStep.objects.filter(run_id=run_id, key=call.key).order_by("-attempt").first()
    if latest is None:
        return new_attempt(run_id, call, generation_id, 0), None
    if not latest.said:
        return latest, None
    return latest, msgspec.msgpack.decode(bytes(latest.said), type=Said)


def new_attempt(run_id: str, call: Call, generation_id: str, attempt: int) -> RunStep:
    """The row of an attempt at a call."""
    return RunStep.objects.create(
        run_id=run_id,
        key=call.key,
        attempt=attempt,
        phase=call.phase,
        round=call.round,
        member=call.member.index,
        participant=call.member.participant,
        version_key=call.member.spec.version_key,
        generation_id=generation_id,
    )


def end_step(step: RunStep, said: Said) -> None:
    """Store the outcome of an attempt."""
    step.said = msgspec.msgpack.encode(said)
    step.text = storable(said.text)
    step.finish, step.error_code = said.finish, said.error_code
    step.prompt_tokens, step.cached_tokens = said.prompt_tokens, said.cached_tokens
    step.completion_tokens, step.context_tokens = said.completion_tokens, said.context_tokens
    step.ended_at = timezone.now()
    step.save()


def latest_answer(run_id: str, given: str) -> Said | None:
    """The newest text that may be the answer of a run that is cut; None if there is none.

    ``given`` is the key of the call whose text the client has in part; it stays the answer.
    """
    if given:
        return Said(given, 0)
    steps = RunStep.objects.filter(run_id=run_id, error_code="").exclude(ended_at=None)
    steps = steps.exclude(participant__in=("critic", "compressor"))
    newest = steps.order_by("-ended_at").first()
    return None if newest is None else msgspec.msgpack.decode(bytes(newest.said), type=Said)


def end_run(run_id: str, state: str, summary: dict[str, Any], error_code: str = "") -> None:
    """Store the end of a run."""
    OrchestrationRun.objects.filter(id=run_id).update(
        state=state,
        summary=msgspec.json.decode(storable(msgspec.json.encode(summary).decode())),
        error_code=error_code,
        frozen=b"",
        ended_at=timezone.now(),
    )


def steps_of(run_id: str) -> list[RunStep]:
    """All attempts of a run, in the order of their beginnings."""
    return list(RunStep.objects.filter(run_id=run_id).defer("said"))


def storable(text: str) -> str:
    """A text that Postgres stores: it has no NUL."""
    return text.replace("\0", "\u2400").replace("\\u0000", "\u2400")
