"""Requests to the members, made from the client's request: pure.

The client's messages stay as they are, and instructions stand at the end, so that all calls to one
model share their beginning, which is then computed once. A call whose text may become the answer
keeps the client's constraints; other calls have our own.
"""

import hashlib
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from inference.messages import SEEDS
from inference.orders.cast import Member
from inference.orders.requests import (
    CacheOptions,
    ChatRequest,
    JsonSchemaFormat,
    Message,
    NamedSchema,
    TextFormat,
    TextPart,
)

_DIVERSE_TEMPERATURE: Final = 0.7
_FORMS: Final = (
    *("grammar", "regex", "guided_json", "guided_choice", "guided_regex"),
    *("structured_outputs", "tools"),
)
_CONSTRAINTS: Final = (
    *(*_FORMS, "response_format", "tool_choice", "parallel_tool_calls", "stop"),
    *("logprobs", "top_logprobs", "logit_bias", "ignore_eos", "max_completion_tokens"),
    *("continue_final_message", "add_generation_prompt"),
)


def request_of(
    request: ChatRequest, key: str, block: str = "", turns: Sequence[Message] = ()
) -> ChatRequest:
    """The request of a call whose text may become the answer.

    Args:
        request: the client's.
        key: of the call; different calls of a seeded request have different seeds.
        block: an instruction at the end of the last turn of the user.
        turns: to add after the client's messages.
    """
    messages = [*request.messages, *turns]
    if block and messages[-1].role == "user":
        messages[-1] = _with_block(messages[-1], block)
    elif block:
        messages.append(Message(role="user", content=block))
    cache = request.cache and CacheOptions(mode=request.cache.mode, scope=request.cache.scope)
    return msgspec.structs.replace(
        request,
        messages=messages,
        seed=None if request.seed is None else _seed_of(request.seed, key),
        stream=None,
        stream_options=None,
        cache=cache,
        orchestration=None,
    )


def own_request_of(
    request: ChatRequest, key: str, block: str, schema: dict[str, Any] | None, max_tokens: int
) -> ChatRequest:
    """The request of a call whose text never is the answer: none of the client's constraints."""
    form = schema and JsonSchemaFormat(json_schema=NamedSchema(name="answer", schema=schema))
    free = msgspec.structs.replace(request, **dict.fromkeys(_CONSTRAINTS))
    asked = request_of(free, key, block)
    return msgspec.structs.replace(asked, response_format=form, max_tokens=max_tokens)


def fenced(text: str) -> str:
    """A text that cannot end the marks around it."""
    return text.replace(">>>", "> > >").replace("<<<", "< < <")


def is_constrained(request: ChatRequest) -> bool:
    """Tell whether the client sets the form of the answer."""
    is_text = isinstance(request.response_format, TextFormat | None)
    return not is_text or any(getattr(request, name) for name in _FORMS)


def question_of(request: ChatRequest) -> str:
    """The text of the last turn of the user; "" without one."""
    turns = [message for message in request.messages if message.role == "user"]
    return str(turns[-1].as_template_message()["content"]) if turns else ""


def is_greedy(request: ChatRequest, member: Member) -> bool:
    """Tell whether a member answers a request always the same."""
    wanted = request.temperature
    own = member.spec.default_sampling.get("temperature", 1.0)
    return (own if wanted is None else wanted) == 0


def diverse(request: ChatRequest, members: Sequence[Member]) -> ChatRequest:
    """The request with a temperature at which several members on one version differ.

    A temperature that the client sends stays.
    """
    keys = {member.spec.version_key for member in members}
    if request.temperature is not None or len(keys) == len(members):
        return request
    highest = max(member.spec.default_sampling.get("temperature", 1.0) for member in members)
    return msgspec.structs.replace(request, temperature=max(highest, _DIVERSE_TEMPERATURE))


def _seed_of(seed: int, key: str) -> int:
    digest = hashlib.sha256(f"{seed} {key}".encode()).digest()
    return int.from_bytes(digest[:4], "big") % SEEDS


def _with_block(message: Message, block: str) -> Message:
    content = message.content or ""
    text = f"\n\n{block}"
    longer = content + text if isinstance(content, str) else [*content, TextPart(text)]
    return msgspec.structs.replace(message, content=longer)
