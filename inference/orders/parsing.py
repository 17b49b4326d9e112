"""From bytes to a typed request, or to a message that says what is wrong and where: pure."""

import re
from functools import cache
from typing import Any, TypeVar

import msgspec

from inference.errors import InvalidRequestError
from inference.orders.hints import without_hints
from inference.orders.requests import OpenAIRequest

Body = TypeVar("Body", bound=msgspec.Struct)

# Parameters of other services that this one does not support, with the values that ask for nothing
# beyond what it does anyway.
UNSUPPORTED: dict[str, tuple[Any, ...]] = {
    "audio": (),
    "best_of": (1,),
    "cache": (),
    "echo": (False,),
    "function_call": ("none",),
    "functions": ([],),
    "include_stop_str_in_output": (False,),
    "length_penalty": (1, 1.0),
    "mirostat": (0,),
    "modalities": (["text"], []),
    "moderation": (),
    "session_id": (),
    "skip_special_tokens": (True,),
    "spaces_between_special_tokens": (True,),
    "suffix": ("",),
    "tfs_z": (1, 1.0),
    "use_beam_search": (False,),
    "web_search_options": (),
}
# Names that other servers have for the same.
SYNONYMS = {
    "n_predict": "max_tokens",
    "num_predict": "max_tokens",
    "repetition_penalty": "repeat_penalty",
}

_PATH = re.compile(r" - at (?:`key` in )?`\$(.*)`$")
_UNKNOWN = re.compile(r"unknown field `([^`]*)`")
_MISSING = re.compile(r"missing required field `([^`]*)`")


def decode_json(data: bytes | str, name: str, param: str | None = None) -> Any:
    """The JSON value in ``data``.

    Raises:
        InvalidRequestError: it is none; the message speaks of ``name``.
    """
    try:
        return msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRequestError(
            f"The {name} is not valid JSON: {error}", param=param, code="invalid_json"
        ) from None


def parse(raw: Any, kind: type[Body]) -> Body:
    """Convert decoded JSON to ``kind``, strictly.

    In requests that clients of OpenAI's API send, hints are passed over (``hints_in`` names them),
    synonyms are read, and ``null`` stands for the default of a parameter.

    Raises:
        InvalidRequestError: with ``param`` naming the field where there is one.
    """
    if not isinstance(raw, dict):
        raise InvalidRequestError("The request body must be a JSON object.", code="invalid_json")
    given = raw
    if issubclass(kind, OpenAIRequest):
        raw = _in_own_words(without_hints(raw), kind)
    try:
        return msgspec.convert(raw, kind)
    except msgspec.ValidationError as error:
        text = str(error)
        for name in given.keys() & SYNONYMS.keys():
            text = text.replace(f"`$.{SYNONYMS[name]}`", f"`$.{name}`")
        raise _explained(text) from None


def _in_own_words(raw: dict[str, Any], kind: type[msgspec.Struct]) -> dict[str, Any]:
    """The body without what asks for nothing, under the names that this service has."""
    optional = _optional_fields(kind)
    read: dict[str, Any] = {}
    for name, value in raw.items():
        own = SYNONYMS.get(name, name)
        if own in optional:
            if value is None or (own == "stop" and value == ""):
                continue
            if read.setdefault(own, value) != value:
                raise InvalidRequestError(
                    f"{name!r} and another name of {own!r} have different values. Send one.",
                    param=name,
                )
        elif name not in UNSUPPORTED:
            read[name] = value
        elif value is not None and not any(
            type(value) is type(harmless) and value == harmless for harmless in UNSUPPORTED[name]
        ):
            raise InvalidRequestError(
                f"This service does not support {name!r}. Leave it out.",
                param=name,
                code="unsupported_parameter",
            )
    return read


@cache
def _optional_fields(kind: type[msgspec.Struct]) -> frozenset[str]:
    """Kept, because msgspec evaluates all annotations anew each time."""
    fields = msgspec.structs.fields(kind)
    return frozenset(field.encode_name for field in fields if not field.required)


def _explained(text: str) -> InvalidRequestError:
    """msgspec's message with the JSON path as ``param``."""
    at = _PATH.search(text)
    path = at.group(1).lstrip(".") if at else ""
    path = path.replace("[...]", "[]")
    message = text[: at.start()] if at else text
    unknown = _UNKNOWN.search(message)
    if unknown:
        param = f"{path}.{unknown.group(1)}" if path else unknown.group(1)
        return InvalidRequestError(
            f"Unknown parameter: {param!r}. Leave it out or correct its name.",
            param=param,
            code="unknown_parameter",
        )
    missing = _MISSING.search(message)
    if missing:
        param = f"{path}.{missing.group(1)}" if path else missing.group(1)
        return InvalidRequestError(
            f"Missing required parameter: {param!r}.", param=param, code="missing_parameter"
        )
    return InvalidRequestError(
        f"Invalid value for {path or 'the request'!r}: {message}.", param=path or None
    )
