"""The grammar that an answer with tools must match, in llguidance's Lark dialect: pure.

Before the first call any text is allowed, unless a call is forced; from a call's opening on,
only calls of the request's tools with arguments of their schemas. The text around name and
arguments is fixed to what chat templates show, white space included.

Syntax: https://github.com/guidance-ai/llguidance/blob/main/docs/syntax.md
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

from inference.errors import InvalidRequestError
from inference.orders.json_schema import (
    OPEN_ENDED,
    EnforcedSchema,
    read_leniently,
    read_schema,
    schema_text,
)
from inference.orders.tools.json_scan import depth_of
from inference.orders.tools.schemas import Tool
from inference.orders.tools.syntax import Spelling

# Of a schema with all that it says; chat templates write it out by recursion.
MAX_DEPTH = 80
# A weak model may not find an end of calls.
MAX_CALLS = 16


@dataclass(frozen=True)
class Demand:
    """How many calls an answer may have. Without ``forced`` it may be text instead."""

    forced: bool
    max_calls: int = MAX_CALLS


def arguments_schema(tool: Tool, param: str) -> EnforcedSchema:
    """The schema that a call's arguments are held to, always one of objects.

    A function that lists no parameters takes none.

    Args:
        tool: whose parameters count; with ``strict`` all of their schema is enforced.
        param: the field of the schema, for errors.

    Raises:
        InvalidRequestError: the schema is not one of objects, is nested too deeply for templates,
            or is strict and has a constraint that cannot be enforced.
    """
    parameters = tool.function.parameters or {}
    schema = {"type": "object"} | {k: v for k, v in parameters.items() if v is not None}
    if depth_of(schema) > MAX_DEPTH:
        raise InvalidRequestError(
            f"The parameters of {tool.function.name!r} are nested more than {MAX_DEPTH} deep. "
            "Simplify them.",
            param=param,
        )
    if schema["type"] != "object":
        if not (isinstance(schema["type"], list) and "object" in schema["type"]):
            raise InvalidRequestError(
                f"The parameters of {tool.function.name!r} must be a JSON schema of the type "
                "'object'.",
                param=param,
            )
        schema["type"] = "object"
    if not schema.get("properties") and not schema.keys() & OPEN_ENDED:
        schema["additionalProperties"] = False
    if tool.function.strict:
        return EnforcedSchema(read_schema(schema, param))
    return read_leniently(schema, param)


def lark_of(
    tools: Mapping[str, EnforcedSchema],
    spelling: Spelling,
    demand: Demand,
    tag_tokens: Mapping[str, int],
) -> str:
    """The Lark grammar of an answer.

    Args:
        tools: names of the tools that may be called, with the schemas of their arguments.
        spelling: how the model writes calls.
        demand: whether it must, and how often it may.
        tag_tokens: token ids of the spelling's tags, where a tag is one token. It is written as
            that token, never letter by letter: a control token has no other way, and for others
            it is what the model was trained on.
    """
    opening = _tag(spelling.opening, tag_tokens)
    if spelling.opening_optional and spelling.opening not in tag_tokens:
        opening = ""
    closing = _tag(spelling.closing, tag_tokens)
    lines = [
        f"start: {_start(spelling, demand, opening)}",
        f"call: ({' | '.join(f'call_{index}' for index in range(len(tools)))})"
        f"{_literal('}' + spelling.before_closing)}{closing}",
    ]
    for index, (name, enforced) in enumerate(tools.items()):
        head = _literal(spelling.after_opening + spelling.head(name))
        lines.append(f"call_{index}:{head} %json {schema_text(enforced.schema)}")
    if not demand.forced:
        lines += _text_rules(spelling, tag_tokens)
    return "\n".join(lines)


def _start(spelling: Spelling, demand: Demand, opening: str) -> str:
    calls = "call"
    if demand.max_calls > 1:
        between = _literal(spelling.separator) + ("" if spelling.opening_optional else opening)
        calls += f" ({between} call){{0,{demand.max_calls - 1}}}"
    if spelling.opening_optional:
        # Such a call stands at the beginning of an answer, or not at all.
        calls = f"({opening})? {calls}" if opening else calls
        return calls if demand.forced else f"TEXT | {calls}"
    return f"{opening} {calls}" if demand.forced else f"TEXT | until_opening {calls}"


def _text_rules(spelling: Spelling, tag_tokens: Mapping[str, int]) -> list[str]:
    """What text may be: anything that is not, or does not have, the beginning of a call."""
    if spelling.opening_optional:
        return [r'TEXT: /(?s:.*)/ & ~/\{"name"(?s:.*)/']
    tag = re.escape(spelling.opening).replace("/", r"\/")
    text = f"TEXT: /(?s:.*)/ & ~/(?s:.*){tag}(?s:.*)/"
    if spelling.opening in tag_tokens:
        return [text, f"until_opening: TEXT <[{tag_tokens[spelling.opening]}]>"]
    return [text, f"until_opening[lazy]: /(?s:.*){tag}/"]


def _tag(text: str, tag_tokens: Mapping[str, int]) -> str:
    if text in tag_tokens:
        return f" <[{tag_tokens[text]}]>"
    return _literal(text)


def _literal(text: str) -> str:
    return f" {json.dumps(text)}" if text else ""
