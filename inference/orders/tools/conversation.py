"""Prepare conversations with calls and results for chat templates: pure."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from inference.errors import InvalidRequestError
from inference.orders.requests import Message
from inference.orders.tools.json_scan import depth_of
from inference.orders.tools.schemas import Tool

# Templates write arguments by recursion.
_MAX_DEPTH = 32

_INTRODUCTION = """\
You can call these functions, described one per line with their parameters as a JSON schema:
{functions}
To call a function, answer with nothing but one JSON object:
{{"name": "<function>", "arguments": {{"<parameter>": <value>}}}}
To call several, write one such object per line. Answer in plain words where no function helps."""


def template_messages(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """Messages for a chat template: arguments are dicts, results have their function's name."""
    rendered = []
    names: dict[str, str] = {}
    for message in messages:
        entry = message.as_template_message()
        for call in message.tool_calls or ():
            names[call.id] = call.function.name
        if message.tool_calls:
            entry["tool_calls"] = [
                {
                    "id": call.id,
                    "type": "function",
                    "function": {
                        "name": call.function.name,
                        "arguments": _arguments_object(call.function.arguments_text),
                    },
                }
                for call in message.tool_calls
            ]
        if message.tool_call_id is not None:
            entry["tool_call_id"] = message.tool_call_id
            entry.setdefault("name", names.get(message.tool_call_id, ""))
        rendered.append(entry)
    check_conversation(messages)
    return rendered


def check_conversation(messages: Sequence[Message]) -> None:
    """Check that each call is followed by its result."""
    unanswered: list[str] = []
    called: set[str] = set()
    for index, message in enumerate(messages):
        place = f"messages[{index}]"
        _check_fields(message, place)
        if message.role == "tool":
            if message.tool_call_id not in called:
                raise InvalidRequestError(
                    f"No call with the id {message.tool_call_id!r} comes before this result. Send "
                    "the assistant message with its 'tool_calls' first.",
                    param=f"{place}.tool_call_id",
                )
            if message.tool_call_id not in unanswered:
                raise InvalidRequestError(
                    f"The call {message.tool_call_id!r} has two results. Send only one.",
                    param=f"{place}.tool_call_id",
                )
            unanswered.remove(message.tool_call_id)
            continue
        _require_answered(unanswered, place)
        unanswered = [call.id for call in message.tool_calls or ()]
        called = set(unanswered)
        if len(called) < len(unanswered):
            raise InvalidRequestError(
                "Two calls have the same id. Give each its own.", param=f"{place}.tool_calls"
            )
    _require_answered(unanswered, f"messages[{len(messages) - 1}]")


def _check_fields(message: Message, place: str) -> None:
    if message.tool_calls and message.role != "assistant":
        raise InvalidRequestError(
            f"'tool_calls' belong to messages of the role 'assistant', not {message.role!r}.",
            param=f"{place}.tool_calls",
        )
    if (message.tool_call_id is not None) != (message.role == "tool"):
        raise InvalidRequestError(
            "A message of the role 'tool' needs 'tool_call_id', and no other message may have it.",
            param=f"{place}.tool_call_id",
        )
    if message.content is None and message.role not in ("assistant", "tool"):
        raise InvalidRequestError(
            f"A message of the role {message.role!r} needs 'content'.",
            param=f"{place}.content",
            code="missing_parameter",
        )


def _require_answered(unanswered: list[str], place: str) -> None:
    if unanswered:
        named = ", ".join(map(repr, unanswered))
        raise InvalidRequestError(
            "Messages of the role 'tool' with the results of 'tool_calls' must follow directly. "
            f"Send the results of {named}.",
            param=place,
        )


def template_tools(tools: Sequence[Tool]) -> list[dict[str, Any]]:
    # Some templates concatenate the description without checking that there is one.
    return [
        {
            "type": "function",
            "function": {
                "name": tool.function.name,
                "description": tool.function.description or "",
                "parameters": {"type": "object", "properties": {}}
                | (tool.function.parameters or {}),
            },
        }
        for tool in tools
    ]


def tools_as_text(
    messages: Sequence[dict[str, Any]], tools: Sequence[dict[str, Any]]
) -> list[dict[str, Any]]:
    """A conversation for a template that does not support tools.

    The system message describes ``tools``, if there are any; texts hold the calls and results.
    """
    plain = list(_without_calls(messages))
    if not tools:
        return plain
    described = "\n".join(
        json.dumps(tool["function"], ensure_ascii=False, separators=(", ", ": ")) for tool in tools
    )
    block = _INTRODUCTION.format(functions=described)
    if plain[0]["role"] == "system":
        first = plain[0] | {"content": f"{plain[0]['content']}\n\n{block}"}
        return [first, *plain[1:]]
    return [{"role": "system", "content": block}, *plain]


def _without_calls(messages: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    results: list[str] = []
    for message in messages:
        if message["role"] == "tool":
            results.append(f"Result of {message['name']}:\n{message['content']}")
            continue
        if results and message["role"] != "user":
            yield {"role": "user", "content": "\n".join(results)}
            results = []
        functions = [call["function"] for call in message.get("tool_calls", ())]
        calls = [
            json.dumps({"name": one["name"], "arguments": one["arguments"]}, ensure_ascii=False)
            for one in functions
        ]
        parts = [*results, *filter(None, [message["content"]]), *calls]
        results = []
        yield {
            **{key: value for key, value in message.items() if key != "tool_calls"},
            "content": "\n".join(parts),
        }
    if results:
        yield {"role": "user", "content": "\n".join(results)}


def _arguments_object(text: str) -> Any:
    """The JSON object in ``text``, {} if it is blank; the text itself if it is anything else."""
    if text.strip() in ("", "null"):
        return {}
    try:
        value = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return text
    return value if isinstance(value, dict) and depth_of(value) <= _MAX_DEPTH else text
