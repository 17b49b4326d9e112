"""The grammar of an answer with tools, in llguidance's Lark dialect: pure.

Any text may come before the first call; then only calls follow, exactly as chat templates write
them. Syntax: https://github.com/guidance-ai/llguidance/blob/main/docs/syntax.md
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

from inference.orders.json_schema import EnforcedSchema, schema_text
from inference.orders.tools.syntax import Spelling

# A weak model may not stop calling.
MAX_CALLS = 16


@dataclass(frozen=True)
class CallLimits:
    """How many calls an answer may have; unless ``forced``, it may have none."""

    forced: bool
    max_calls: int = MAX_CALLS


def lark_of(
    tools: Mapping[str, EnforcedSchema],
    spelling: Spelling,
    limits: CallLimits,
    tag_tokens: Mapping[str, int],
) -> str:
    """The Lark grammar of an answer with calls of ``tools``, which map names to schemas.

    ``tag_tokens`` are the ids of tags that are one token. The grammar asks for that token and not
    for its letters: control tokens cannot be spelled, and models are trained on the token.
    """
    opening = _tag(spelling.opening, tag_tokens)
    if spelling.opening_optional and spelling.opening not in tag_tokens:
        opening = ""
    closing = _tag(spelling.closing, tag_tokens)
    lines = [
        f"start: {_start(spelling, limits, opening)}",
        f"call: ({' | '.join(f'call_{index}' for index in range(len(tools)))})"
        f"{_literal('}' + spelling.before_closing)}{closing}",
    ]
    for index, (name, enforced) in enumerate(tools.items()):
        head = _literal(spelling.after_opening + spelling.head(name))
        lines.append(f"call_{index}:{head} %json {schema_text(enforced.schema)}")
    if not limits.forced:
        lines += _text_rules(spelling, tag_tokens)
    return "\n".join(lines)


def _start(spelling: Spelling, limits: CallLimits, opening: str) -> str:
    calls = "call"
    if limits.max_calls > 1:
        between = _literal(spelling.separator) + ("" if spelling.opening_optional else opening)
        calls += f" ({between} call){{0,{limits.max_calls - 1}}}"
    if spelling.opening_optional:
        # Such a call is only recognised at the beginning of an answer.
        calls = f"({opening})? {calls}" if opening else calls
        return calls if limits.forced else f"TEXT | {calls}"
    return f"{opening} {calls}" if limits.forced else f"TEXT | until_opening {calls}"


def _text_rules(spelling: Spelling, tag_tokens: Mapping[str, int]) -> list[str]:
    """Rules for text without the beginning of a call."""
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
