"""A stage whose members say given texts, and casts of members without files."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from inference.errors import ModelBusyError
from inference.orchestration.answers import shown
from inference.orchestration.modes import perform
from inference.orchestration.stage import Answer, Call, Said, Vector
from inference.orders.cast import Cast, Member
from inference.orders.requests import ChatRequest, Message
from models_registry.rules.mode_settings import read_settings
from models_registry.rules.spec import ModelSpec

FAILS = "\0fails"


def spec(slug: str = "alpha", **fields: Any) -> ModelSpec:
    defaults: dict[str, Any] = {
        "model_slug": slug,
        "version_key": f"{slug}@v1",
        "type": "text_generation",
        "path": "",
        "chat_template": "",
        "context_length_tokens": 8192,
        "kv_cells": 8192,
        "max_sequences": 8,
    }
    return ModelSpec(**(defaults | fields))


def cast(mode: str, *members: str, **settings: Any) -> Cast:
    """A cast of members such as ``alpha generator``."""
    named = [member.split() for member in members]
    return Cast(
        mode,
        read_settings(mode, settings),
        tuple(Member(i, part, spec(slug)) for i, (slug, part) in enumerate(named)),
        "T4",
        "T4",
    )


def asked(text: str = "What is rain?", **fields: Any) -> ChatRequest:
    return ChatRequest(model="T4", messages=[Message(role="user", content=text)], **fields)


class ScriptedStage:
    """Members say ``texts`` by the key of the call; ``FAILS`` before a text makes the call fail.

    ``calls`` are all that were made, ``given`` the keys of those given to the client as they came.
    """

    def __init__(
        self, texts: dict[str, str], vectors: dict[str, list[float]] | None = None
    ) -> None:
        self.run_id = "chatcmpl-1"
        self._texts, self._vectors = texts, vectors
        self.calls: list[Call] = []
        self.given: list[str] = []
        self.foreseen: list[list[list[str]]] = []
        self.phases: list[dict[str, Any]] = []
        self.notices: list[tuple[str, dict[str, Any]]] = []

    async def complete(self, call: Call, *, is_answer: bool = False) -> Said:
        self.calls.append(call)
        text = self._texts[call.key]
        if is_answer:
            self.given.append(call.key)
        if text.startswith(FAILS):
            busy = ModelBusyError.default_code
            rest = text.removeprefix(FAILS)
            return Said(call.key, call.member.index, rest, "", busy, "The queue is full.")
        return Said(call.key, call.member.index, text, "stop")

    async def together(self, calls: Sequence[Call]) -> list[Said]:
        return [await self.complete(call) for call in calls]

    def foresee(self, *phases: Sequence[Member]) -> None:
        self.foreseen.append([[one.spec.model_slug for one in phase] for phase in phases])

    async def end_phase(self, phase: str, number: int, **facts: Any) -> None:
        self.phases.append({"phase": phase, "round": number, **facts})

    async def notice(self, code: str, **facts: Any) -> None:
        self.notices.append((code, facts))

    async def fitted(self, member: Member, request: ChatRequest, texts: Sequence[str]) -> list[str]:
        return [shown(text) for text in texts]

    async def vectors(self, texts: Sequence[str]) -> dict[str, Vector] | None:
        if self._vectors is None:
            return None
        return {text: np.array(self._vectors[text], np.float32) for text in texts}

    @property
    def keys(self) -> list[str]:
        """The keys of the calls, in order."""
        return [call.key for call in self.calls]

    def prompt(self, key: str) -> str:
        """The last turn of a call."""
        call = next(call for call in self.calls if call.key == key)
        return str(call.request.messages[-1].content)


async def played(stage: ScriptedStage, cast: Cast, request: ChatRequest | None = None) -> Answer:
    return await perform(stage, request or asked(), cast)
