"""Render a model's Jinja chat template in a sandbox, and separate its text from the messages'."""

import datetime
import json
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, TypedDict, Unpack

import jinja2

from inference.prompts.marks import ROLES, split_marks
from inference.prompts.tracked_text import END, TrackingEnvironment, delimited, origins, trusted
from inference.prompts.variants import instructions_to_check, is_rendered, variants
from models_registry.rules.chat_templates import TEMPLATE_EXTENSIONS, TEMPLATE_FILTERS

MAX_REASON_CHARACTERS = 300
# Template variables that the service sets.
OWN_VARIABLES = frozenset(
    ["messages", "tools", "documents", "bos_token", "eos_token", "add_generation_prompt"]
)
Scalar = str | int | float | bool | None


class TemplateFailedError(Exception):
    """The template could not be rendered; clients see the message."""


class RenderOptions(TypedDict, total=False):
    """``variables``: further ones of the template; those in OWN_VARIABLES have no effect.

    ``add_generation_prompt`` (default true): end with the opening of the assistant's turn.
    ``continue_final_message``: end with the text of the last message, which is the assistant's.
    """

    tools: Sequence[dict[str, Any]] | None
    variables: Mapping[str, Scalar] | None
    add_generation_prompt: bool
    continue_final_message: bool


def render(
    template: str,
    messages: Sequence[dict[str, Any]],
    marks: tuple[str, ...],
    *,
    bos_token: str = "",
    eos_token: str = "",
    **options: Unpack[RenderOptions],
) -> list[str]:
    """Render a conversation, reworded if the template refuses the original (see ``variants``).

    Args:
        messages: dicts with ``role`` and ``content``, and any other keys that the template reads.
        marks: spellings of tokens that only the template may write.

    Returns:
        Pieces to tokenise separately; every mark in one of them is the template's.

    Raises:
        TemplateFailedError: the template refused the conversation or is broken.
        MemoryError, TimeoutError: the process reached a limit.
    """
    continues = options.get("continue_final_message", False)
    variables = {
        **(options.get("variables") or {}),
        "add_generation_prompt": options.get("add_generation_prompt", True) and not continues,
        "bos_token": trusted(bos_token),
        "eos_token": trusted(eos_token),
        "tools": options.get("tools"),
        "documents": None,
    }
    if continues:
        messages = [*messages[:-1], _with_end(messages[-1])]
    rendered = _first_accepted(template, messages, variables)
    text, untrusted = origins(_cut(rendered) if continues else rendered)
    return split_marks(text, marks, untrusted)


def _first_accepted(
    template: str, messages: Sequence[dict[str, Any]], variables: dict[str, Any]
) -> str:
    """The first variant that renders with all instructions, else the first that renders at all."""
    instructions = instructions_to_check(messages)
    refusal: Exception | None = None
    incomplete = None
    for variant in variants(messages):
        prepared = [_prepared(message) for message in variant]
        try:
            rendered = _compiled(template).render(variables | {"messages": prepared})
        except (MemoryError, TimeoutError):
            raise
        except Exception as error:
            # The template is someone else's program: it may raise anything.
            refusal = refusal or error
            continue
        if all(is_rendered(text, rendered) for text in instructions):
            return delimited(rendered)
        incomplete = delimited(incomplete or rendered)
    if incomplete is not None:
        return incomplete
    if "tools" in variables and variables["tools"] is None:
        # Some templates loop over the tools without checking that there are any.
        others = {name: value for name, value in variables.items() if name != "tools"}
        return _first_accepted(template, messages, others)
    reason = str(refusal) or type(refusal).__name__
    if len(reason) > MAX_REASON_CHARACTERS:
        reason = reason[:MAX_REASON_CHARACTERS] + "…"
    raise TemplateFailedError(
        f"The model's chat template refuses this conversation: {reason}"
    ) from refusal


def texts_in(value: Any) -> Iterator[str]:
    """All texts in a value made of dicts and lists, keys included."""
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, str):
            yield item
        elif isinstance(item, dict):
            waiting += item.keys()
            waiting += item.values()
        elif isinstance(item, list | tuple):
            waiting += item


def _prepared(message: dict[str, Any]) -> dict[str, Any]:
    """The message with a trusted role, and its reasoning under each name that templates read."""
    prepared = dict(message)
    # Templates assemble marks from known roles.
    if message["role"] in ROLES:
        prepared["role"] = trusted(message["role"])
    reasoning = message.get("reasoning_content")
    if reasoning is not None:
        prepared["reasoning"] = reasoning
        # Harmony's templates refuse it beside the text of a message that calls tools.
        if not (message.get("tool_calls") and message["content"]):
            prepared["thinking"] = reasoning
    return prepared


def _with_end(message: dict[str, Any]) -> dict[str, Any]:
    if message["role"] != "assistant":
        raise TemplateFailedError(
            "Only a message of the assistant can be continued. Send one as the last message."
        )
    # The blank after END shows whether the template trims messages.
    return message | {"content": f"{message['content']}{END} "}


def _cut(rendered: str) -> str:
    """The text before END, trimmed if the template trims messages."""
    text, end, rest = rendered.rpartition(END)
    if not end:
        raise TemplateFailedError(
            "The model's chat template leaves the last message out or changes it, so it cannot be "
            "continued. Leave 'continue_final_message' out."
        )
    return text if rest.startswith(" ") else text.rstrip()


@lru_cache(maxsize=64)
def _compiled(template: str) -> jinja2.Template:
    environment = TrackingEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=TEMPLATE_EXTENSIONS
    )
    environment.filters.update(dict(zip(TEMPLATE_FILTERS, (json.loads, _to_json), strict=True)))
    environment.globals["raise_exception"] = _raise
    environment.globals["strftime_now"] = _strftime_now
    return environment.from_string(template)


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    # Jinja's own filter escapes for HTML, and a model would read the escapes.
    return json.dumps(
        value,
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
    )


def _raise(message: str) -> None:
    raise jinja2.TemplateError(message)


def _strftime_now(pattern: str) -> str:
    return datetime.datetime.now(tz=datetime.UTC).strftime(pattern)
