"""JSON schemas from clients: pure.

llguidance leaves out of account what it does not know, and some of what it knows in a certain
company. So all that it enforces is listed here, and all else is refused by name. The bounds keep
compiling within a fraction of a second.
"""

from typing import Any, cast
from urllib.parse import unquote

import msgspec

from inference.errors import InvalidRequestError

MAX_SCHEMA_BYTES = 60_000
MAX_SCHEMAS = 2_000
MAX_DEPTH = 32
# Each that is optional is a way to go on, of which llguidance follows 2,000 at once.
MAX_PROPERTIES = 400
MAX_ENUM_VALUES = 1_000

# Between the tokens of a JSON text; without a bound a small model may never stop indenting.
WHITESPACE = r"( |\n{1,2}[ \t]{0,20})"

_BOUNDS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")
_CONSTRAINTS = frozenset(
    [
        *_BOUNDS,
        *("type", "required", "pattern", "format", "multipleOf"),
        *("minItems", "maxItems", "minProperties", "maxProperties", "minLength", "maxLength"),
    ]
)
_VALUES = frozenset(["const", "enum"])
_SCHEMA = frozenset(["items", "additionalItems", "additionalProperties"])
_SCHEMA_LISTS = frozenset(["prefixItems", "anyOf", "oneOf", "allOf"])
_SCHEMA_MAPS = frozenset(["properties", "patternProperties", "$defs", "definitions"])
_ANNOTATIONS = frozenset(
    [
        *("title", "description", "default", "examples", "example", "deprecated", "$comment"),
        *("readOnly", "writeOnly", "contentMediaType", "contentEncoding", "discriminator"),
    ]
)
# These say how the rest is to be read: always as these lists have it.
_ROOT_ANNOTATIONS = frozenset(["$schema", "$id", "id"])


def check_schema(schema: dict[str, Any], param: str) -> None:
    """See that a JSON schema is small and has only what answers will be held to.

    Args:
        schema: decoded JSON.
        param: the field it came from, for errors.

    Raises:
        InvalidRequestError: it is not so; the message names the keyword.
    """
    read_schema(schema, param)


def read_schema(schema: dict[str, Any], param: str) -> dict[str, Any]:
    """What constrains answers in a JSON schema: it without its annotations.

    llguidance shall be given this and not the schema: ``$schema``, say, may name a draft in which
    it ignores keywords that are listed above. Raises as ``check_schema`` does.
    """
    return _SchemaReader(param).read_root(schema)


def schema_text(schema: dict[str, Any], param: str) -> str:
    """A JSON schema as it may stand after ``%json`` in a grammar, with the whitespace bounded.

    Raises as ``check_schema`` does.
    """
    options = {"x-guidance": {"whitespace_pattern": WHITESPACE}}
    return msgspec.json.encode(read_schema(schema, param) | options).decode()


class _SchemaReader:
    """One walk through a schema: checks it, and copies what constrains."""

    def __init__(self, param: str) -> None:
        self._param = param
        self._places: set[tuple[str, ...]] = set()
        self._references: list[str] = []

    def read_root(self, schema: dict[str, Any]) -> dict[str, Any]:
        root = {name: value for name, value in schema.items() if name not in _ROOT_ANNOTATIONS}
        read = cast("dict[str, Any]", self._read(root, ()))
        for reference in self._references:
            place = tuple(
                part.replace("~1", "/").replace("~0", "~")
                for part in unquote(reference).split("/")[1:]
            )
            if not reference.startswith("#") or place not in self._places:
                raise self._refused(f"has a $ref to {reference[:100]!r}, where no schema is")
        size = len(msgspec.json.encode(read))
        if size > MAX_SCHEMA_BYTES:
            raise self._refused(
                f"has {size} bytes without its annotations; at most {MAX_SCHEMA_BYTES} are allowed"
            )
        return read

    def _read(self, schema: Any, place: tuple[str, ...]) -> dict[str, Any] | bool:
        self._places.add(place)
        if len(self._places) > MAX_SCHEMAS or len(place) > 2 * MAX_DEPTH:
            raise self._refused(
                f"is too large: at most {MAX_SCHEMAS} schemas in each other, {MAX_DEPTH} deep"
            )
        if isinstance(schema, bool):
            return schema
        if not isinstance(schema, dict):
            raise self._refused(f"has {_shown(schema)} where a schema belongs", place)
        read = {}
        for keyword, value in schema.items():
            if keyword not in _ANNOTATIONS:
                read[keyword] = self._read_keyword(keyword, value, place)
        self._check_together(schema, place)
        return read

    def _read_keyword(self, keyword: str, value: Any, place: tuple[str, ...]) -> Any:
        below = (*place, keyword)
        if keyword in _CONSTRAINTS:
            return value
        if keyword == "$ref" and isinstance(value, str):
            self._references.append(value)
            return value
        if keyword in _VALUES:
            if keyword == "enum" and isinstance(value, list) and len(value) > MAX_ENUM_VALUES:
                raise self._refused(f"has an enum of more than {MAX_ENUM_VALUES} values", place)
            self._check_value(value, place)
            return value
        if keyword in _SCHEMA_LISTS or (keyword == "items" and isinstance(value, list)):
            if not isinstance(value, list):
                raise self._refused(f"has {_shown(value)} as {keyword!r}, not a list", place)
            return [self._read(item, (*below, str(index))) for index, item in enumerate(value)]
        if keyword in _SCHEMA:
            return self._read(value, below)
        if keyword in _SCHEMA_MAPS:
            if not isinstance(value, dict):
                raise self._refused(f"has {_shown(value)} as {keyword!r}, not an object", place)
            if len(value) > MAX_PROPERTIES:
                raise self._refused(f"has more than {MAX_PROPERTIES} {keyword!r}", place)
            return {name: self._read(item, (*below, name)) for name, item in value.items()}
        raise self._refused(f"has the keyword {keyword!r}, which is not supported", place)

    def _check_together(self, schema: dict[str, Any], place: tuple[str, ...]) -> None:
        """Refuse what llguidance enforces alone but not beside another keyword."""
        if "prefixItems" in schema and (
            "additionalItems" in schema or isinstance(schema.get("items"), list)
        ):
            raise self._refused("mixes 'prefixItems' with the older form of 'items'", place)
        for keyword in ("exclusiveMinimum", "exclusiveMaximum"):
            if isinstance(schema.get(keyword), bool):
                raise self._refused(f"has a Boolean as {keyword!r}; give the number there", place)
            if _leaks(schema, keyword):
                raise self._refused(
                    f"has a whole number as {keyword!r} less than 1 from the other bound, which is "
                    "not supported; give a bound that is not exclusive",
                    place,
                )
        required, least = schema.get("required", []), schema.get("minProperties", 0)
        # Additional names may repeat, and a reader counts those once.
        if isinstance(least, int) and isinstance(required, list) and least > len(required) + 1:
            raise self._refused("has a 'minProperties' above 1 + the number of 'required'", place)

    def _check_value(self, value: Any, place: tuple[str, ...], depth: int = 0) -> None:
        if depth > MAX_DEPTH:
            raise self._refused("has a value nested too deeply", place)
        if isinstance(value, list | dict):
            for item in value.values() if isinstance(value, dict) else value:
                self._check_value(item, place, depth + 1)
        elif isinstance(value, int) and not -(2**63) <= value < 2**64:
            raise self._refused("has a whole number of more than 64 bits", place)

    def _refused(self, reason: str, place: tuple[str, ...] = ()) -> InvalidRequestError:
        at = f", at {'.'.join(place)[:200]}," if place else ""
        return InvalidRequestError(
            f"The JSON schema in {self._param!r}{at} {reason}.",
            param=self._param,
            code="unsupported_schema",
        )


def _leaks(schema: dict[str, Any], exclusive: str) -> bool:
    """Whether llguidance would let the excluded number itself through, 0 in 0 < x <= 0.5."""
    bound = schema.get(exclusive)
    if not isinstance(bound, int | float) or bound % 1 or schema.get("type") == "integer":
        return False
    others = [schema.get(name) for name in _BOUNDS if name != exclusive]
    return any(isinstance(other, int | float) and 0 < abs(other - bound) < 1 for other in others)


def _shown(value: Any) -> str:
    return repr(value)[:50]
