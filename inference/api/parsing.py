"""From bytes to a typed request, or to a message that says what is wrong and where: pure."""

import re
from functools import cache
from typing import Any, TypeVar

import msgspec

from inference.errors import InvalidRequestError

Body = TypeVar("Body", bound=msgspec.Struct)

# Parameters of OpenAI's API that this service knows but does not support, with the values that
# ask for nothing beyond what it does anyway.
UNSUPPORTED: dict[str, tuple[Any, ...]] = {
    "audio": (None,),
    "best_of": (None, 1),
    "cache": (None,),
    "function_call": (None, "none"),
    "functions": (None, []),
    "metadata": (None, {}),
    "modalities": (None, ["text"]),
    "moderation": (None,),
    "prediction": (None,),
    "prompt_cache_key": (None,),
    "prompt_cache_retention": (None,),
    "reasoning_effort": (None,),
    "safety_identifier": (None,),
    "service_tier": (None, "auto", "default"),
    "session_id": (None,),
    "store": (None, False),
    "suffix": (None, ""),
    "verbosity": (None,),
    "web_search_options": (None,),
}

_PATH = re.compile(r" - at `\$(.*)`$")
_UNKNOWN = re.compile(r"unknown field `([^`]*)`")
_MISSING = re.compile(r"missing required field `([^`]*)`")


def parse_json(data: bytes, kind: type[Body]) -> Body:
    """Decode ``data`` as ``kind``, strictly.

    Raises:
        InvalidRequestError: with ``param`` naming the field where there is one.
    """
    return parse(decode_json(data, "request body"), kind)


def decode_json(data: bytes | str, name: str) -> Any:
    """The JSON value in ``data``. Raises ``InvalidRequestError``, which speaks of ``name``."""
    try:
        return msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRequestError(
            f"The {name} is not valid JSON: {error}", code="invalid_json"
        ) from None


def parse(raw: Any, kind: type[Body]) -> Body:
    """Convert decoded JSON to ``kind``, strictly. Raises as ``parse_json`` does."""
    if not isinstance(raw, dict):
        raise InvalidRequestError("The request body must be a JSON object.", code="invalid_json")
    fields = _field_names(kind)
    known = {}
    for name, value in raw.items():
        if name in fields or name not in UNSUPPORTED:
            known[name] = value
        elif not any(
            type(value) is type(harmless) and value == harmless for harmless in UNSUPPORTED[name]
        ):
            raise InvalidRequestError(
                f"This service does not support {name!r}. Leave it out.",
                param=name,
                code="unsupported_parameter",
            )
    try:
        return msgspec.convert(known, kind)
    except msgspec.ValidationError as error:
        raise _explained(str(error)) from None


@cache
def _field_names(kind: type[msgspec.Struct]) -> frozenset[str]:
    """Kept, because msgspec evaluates all annotations anew each time."""
    return frozenset(field.encode_name for field in msgspec.structs.fields(kind))


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
