"""JSON schemas from clients: pure.

llguidance leaves out of account what it does not know, and some of what it knows in a certain
company. So all constraints that it enforces are listed here. Others are refused by name, or left
out and named where the caller is lenient. Any other keyword is no constraint. The bounds keep
compiling within a fraction of a second.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, cast
from urllib.parse import unquote

import msgspec

from inference.errors import InvalidRequestError
from inference.orders.tools.json_scan import depth_of

MAX_SCHEMA_BYTES = 60_000
MAX_SCHEMAS = 2_000
MAX_DEPTH = 32
# With all that annotations say.
MAX_NESTING = 200
# Each that is optional is a way to go on, of which llguidance follows 2,000 at once.
MAX_PROPERTIES = 400
MAX_ENUM_VALUES = 1_000

# Between the tokens of a JSON text; without a bound a small model may never stop indenting.
WHITESPACE = r"( |\n{1,2}[ \t]{0,20})"

_BOUNDS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")
_EXCLUSIVE = {"minimum": "exclusiveMinimum", "maximum": "exclusiveMaximum"}
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
_KNOWN = _VALUES | _SCHEMA | _SCHEMA_LISTS | _SCHEMA_MAPS | {"$ref"}
_UNENFORCED = frozenset(
    [
        *("not", "if", "then", "else", "contains", "minContains", "maxContains", "uniqueItems"),
        *("propertyNames", "dependentRequired", "dependentSchemas", "dependencies"),
        *("unevaluatedProperties", "unevaluatedItems", "$dynamicRef", "$recursiveRef"),
    ]
)
_CHOICES = frozenset(["anyOf", "oneOf", "allOf"])
_DEFINITIONS = frozenset(["$defs", "definitions"])
_DESCRIBING = _CHOICES | {"$ref", "properties", "patternProperties", "additionalProperties"}
# With one of these a schema may have properties that `properties` does not name.
OPEN_ENDED: Final = frozenset(
    [
        *(*_CHOICES, "$ref", "additionalProperties", "patternProperties", "unevaluatedProperties"),
        *("minProperties", "if", "then", "else", "dependentSchemas", "dependencies"),
    ]
)
_TYPES = frozenset(["object", "array", "string", "number", "integer", "boolean", "null"])
_REGULAR = frozenset(["pattern", "format", "patternProperties"])
_FREE_OBJECT: Final[dict[str, Any]] = {"type": "object"}


@dataclass(frozen=True)
class EnforcedSchema:
    """The part of a schema that answers are held to, and the keywords left out of it."""

    schema: dict[str, Any]
    unenforced: tuple[str, ...] = ()


def read_schema(schema: dict[str, Any], param: str) -> dict[str, Any]:
    """Constraints of a JSON schema, without its annotations.

    llguidance shall be given this and not the schema: ``$schema``, say, may name a draft in which
    it ignores keywords that are listed above. An object that only lists ``properties`` is closed:
    JSON schema would allow any others, which a weak model then makes up.

    Args:
        schema: decoded JSON.
        param: the field it came from, for errors.

    Raises:
        InvalidRequestError: it is too large or has a constraint that cannot be enforced, which the
            message names.
    """
    return _SchemaReader(param).read_root(schema)


def read_leniently(schema: dict[str, Any], param: str) -> EnforcedSchema:
    """Constraints of a JSON schema that can be enforced: any object if nothing else."""
    reader = _SchemaReader(param, is_lenient=True)
    try:
        read = reader.read_root(schema)
        if reader.dangling:
            reader = _SchemaReader(param, is_lenient=True, without=reader.dangling)
            read = reader.read_root(schema)
    except InvalidRequestError:
        return EnforcedSchema(_FREE_OBJECT, ("",))
    return EnforcedSchema(read, tuple(dict.fromkeys(reader.unenforced)))


def relaxations(enforced: EnforcedSchema) -> list[EnforcedSchema]:
    """Schemas to try in turn where one that was read does not compile, the last allows anything."""
    regular: list[str] = []
    relaxed = _relaxed(enforced.schema, regular)
    return [
        EnforcedSchema(relaxed, tuple(dict.fromkeys([*enforced.unenforced, *regular]))),
        EnforcedSchema(_FREE_OBJECT, ("",)),
    ]


def schema_text(schema: dict[str, Any]) -> str:
    """A schema that was read as it may stand after ``%json``, with the whitespace bounded."""
    options = {"x-guidance": {"whitespace_pattern": WHITESPACE}}
    return msgspec.json.encode(schema | options).decode()


def _relaxed(schema: Any, removed: list[str]) -> Any:
    """A copy without regular expressions, whose ``oneOf`` allows what several branches allow."""
    if isinstance(schema, list):
        return [_relaxed(item, removed) for item in schema]
    if not isinstance(schema, dict):
        return schema
    read = {}
    for keyword, value in schema.items():
        if keyword in _REGULAR:
            removed.append(keyword)
        elif keyword in _VALUES | _CONSTRAINTS:
            read[keyword] = value
        elif keyword in _SCHEMA_MAPS:
            read[keyword] = {name: _relaxed(item, removed) for name, item in value.items()}
        elif keyword == "oneOf" and "anyOf" not in schema:
            removed.append(keyword)
            read["anyOf"] = _relaxed(value, removed)
        else:
            read[keyword] = _relaxed(value, removed)
    return read


class _SchemaReader:
    """One walk through a schema: checks it, and copies what constrains.

    A lenient reader leaves out what cannot be enforced and notes it in ``unenforced``, and notes
    references to nothing in ``dangling``.
    """

    def __init__(
        self, param: str, *, is_lenient: bool = False, without: frozenset[str] = frozenset()
    ) -> None:
        self._param = param
        self._is_lenient = is_lenient
        self._without = without
        self._places: set[tuple[str, ...]] = set()
        self._references: list[str] = []
        self._shared: set[tuple[str, ...]] = set()
        self.unenforced: list[str] = []
        self.dangling: frozenset[str] = frozenset()

    def read_root(self, schema: dict[str, Any]) -> dict[str, Any]:
        if depth_of(schema) > MAX_NESTING:
            raise self._refused(f"is nested more than {MAX_NESTING} deep")
        if _combines(schema):
            self._shared = {_place_of(reference) for reference in _references_in(schema)}
        read = cast("dict[str, Any]", self._read(schema, (), closes=True))
        self.dangling = frozenset(filter(self._is_dangling, self._references))
        if self.dangling and not self._is_lenient:
            reference = min(self.dangling)
            raise self._refused(f"has a $ref to {reference[:100]!r}, where no schema is")
        try:
            size = len(msgspec.json.encode(read))
        except UnicodeEncodeError:
            raise self._refused("has a lone UTF-16 surrogate") from None
        if size > MAX_SCHEMA_BYTES:
            raise self._refused(
                f"has {size} bytes without its annotations; at most {MAX_SCHEMA_BYTES} are allowed"
            )
        return read

    def _is_dangling(self, reference: str) -> bool:
        return not reference.startswith("#") or _place_of(reference) not in self._places

    def _read(
        self, schema: Any, place: tuple[str, ...], *, closes: bool = False
    ) -> dict[str, Any] | bool:
        """A schema, closed where it lists properties, unless others describe the same object."""
        self._places.add(place)
        closes = closes and place not in self._shared
        if len(self._places) > MAX_SCHEMAS or len(place) > 2 * MAX_DEPTH:
            raise self._refused(
                f"is too large: at most {MAX_SCHEMAS} schemas in each other, {MAX_DEPTH} deep"
            )
        if isinstance(schema, bool):
            return schema
        if not isinstance(schema, dict):
            raise self._refused(f"has {_shown(schema)} where a schema belongs", place)
        given = _modern(schema)
        schema = self._enforceable(given, place)
        alone = closes and not _combines_here(schema)
        read = {}
        for keyword, value in schema.items():
            if keyword in _CONSTRAINTS:
                read[keyword] = value
            elif keyword in _KNOWN:
                below = alone or keyword in _DEFINITIONS
                read[keyword] = self._read_keyword(keyword, value, place, closes=below)
        if closes and _only_lists_properties(given):
            read["additionalProperties"] = False
        return read

    def _enforceable(self, schema: dict[str, Any], place: tuple[str, ...]) -> dict[str, Any]:
        """The schema without what cannot be enforced. Raises unless the reader is lenient."""
        faults = [
            (keyword, f"has the keyword {keyword!r}, which is not supported")
            for keyword in schema.keys() & _UNENFORCED
            if schema[keyword] is not False or keyword.startswith("unevaluated")
        ]
        faults += _faults(schema)
        if isinstance(schema.get("$ref"), str) and schema["$ref"] in self._without:
            faults.append(("$ref", "has a $ref to nothing"))
        if faults and not self._is_lenient:
            raise self._refused(min(faults)[1], place)
        left_out = sorted({keyword for keyword, _ in faults})
        self.unenforced += left_out
        return {key: value for key, value in schema.items() if key not in left_out}

    def _read_keyword(
        self, keyword: str, value: Any, place: tuple[str, ...], *, closes: bool
    ) -> Any:
        below = (*place, keyword)
        if keyword == "$ref":
            if not isinstance(value, str):
                raise self._refused(f"has {_shown(value)} as '$ref', not a text", place)
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
            return [
                self._read(item, (*below, str(index)), closes=closes)
                for index, item in enumerate(value)
            ]
        if keyword in _SCHEMA:
            return self._read(value, below, closes=closes)
        if not isinstance(value, dict):
            raise self._refused(f"has {_shown(value)} as {keyword!r}, not an object", place)
        if len(value) > MAX_PROPERTIES:
            raise self._refused(f"has more than {MAX_PROPERTIES} {keyword!r}", place)
        return {
            name: self._read(item, (*below, name), closes=closes) for name, item in value.items()
        }

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


def _modern(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema without nulls; draft 4's exclusive bounds, Booleans, become numbers."""
    read = {key: value for key, value in schema.items() if value is not None or key == "const"}
    for inclusive, exclusive in _EXCLUSIVE.items():
        if isinstance(read.get(exclusive), bool) and read.pop(exclusive) and inclusive in read:
            read[exclusive] = read.pop(inclusive)
    return read


def _faults(schema: dict[str, Any]) -> list[tuple[str, str]]:
    """Keywords that llguidance does not enforce with these values or others, with the reason."""
    faults = []
    types = schema.get("type", [])
    named = types if isinstance(types, list) else [types]
    if not all(isinstance(name, str) and name in _TYPES for name in named):
        faults.append(("type", f"has the type {_shown(types)}, which is none of JSON schema"))
    if not isinstance(schema.get("required", []), list):
        faults.append(("required", "has a 'required' that is not a list"))
    if "prefixItems" in schema and (
        "additionalItems" in schema or isinstance(schema.get("items"), list)
    ):
        faults.append(("prefixItems", "mixes 'prefixItems' with the older form of 'items'"))
    faults += [
        (
            keyword,
            f"has a whole number as {keyword!r} less than 1 from the other bound, which is "
            "not supported; give a bound that is not exclusive",
        )
        for keyword in _EXCLUSIVE.values()
        if _leaks(schema, keyword)
    ]
    required, least = schema.get("required", []), schema.get("minProperties", 0)
    # Additional names may repeat, and a reader counts those once.
    if isinstance(least, int) and isinstance(required, list) and least > len(required) + 1:
        reason = "has a 'minProperties' above 1 + the number of 'required'"
        faults.append(("minProperties", reason))
    return faults


def _only_lists_properties(schema: dict[str, Any]) -> bool:
    """True for a schema that describes no properties beside those that it lists."""
    listed, required = schema.get("properties"), schema.get("required", [])
    return (
        isinstance(listed, dict)
        and bool(listed)
        and not _is_open_ended(schema)
        and isinstance(required, list)
        and all(name in listed for name in required if isinstance(name, str))
    )


def _combines_here(schema: dict[str, Any]) -> bool:
    """True where several parts of a schema describe properties of the same object."""
    parts = len(schema.keys() & {"$ref", "properties"})
    for keyword in _CHOICES & schema.keys():
        branches = schema[keyword] if isinstance(schema[keyword], list) else []
        describing = sum(map(_describes_properties, branches))
        # Of `anyOf` and `oneOf` a value matches one branch at a time.
        parts += describing if keyword == "allOf" else min(describing, 1)
    return parts > 1


def _describes_properties(schema: Any) -> bool:
    return isinstance(schema, dict) and bool(schema.keys() & _DESCRIBING)


def _is_open_ended(schema: dict[str, Any]) -> bool:
    """True for a schema that allows properties which its ``properties`` does not list."""
    others = schema.keys() & OPEN_ENDED
    if schema.get("unevaluatedProperties") is False:
        others -= {"unevaluatedProperties"}
    for keyword in _CHOICES & others:
        branches = schema[keyword]
        if isinstance(branches, list) and not any(map(_describes_properties, branches)):
            others -= {keyword}
    return bool(others)


def _combines(schema: Any) -> bool:
    """True where a schema, or one within it, combines several descriptions of an object."""
    return any(isinstance(item, dict) and _combines_here(item) for item in _values_in(schema))


def _references_in(schema: Any) -> Iterator[str]:
    for item in _values_in(schema):
        if isinstance(item, dict) and isinstance(item.get("$ref"), str):
            yield item["$ref"]


def _place_of(reference: str) -> tuple[str, ...]:
    parts = unquote(reference).split("/")[1:]
    return tuple(part.replace("~1", "/").replace("~0", "~") for part in parts)


def _values_in(value: Any) -> Iterator[Any]:
    """A value and all values in it."""
    waiting = [value]
    while waiting:
        item = waiting.pop()
        yield item
        if isinstance(item, dict | list):
            waiting += item.values() if isinstance(item, dict) else item


def _leaks(schema: dict[str, Any], exclusive: str) -> bool:
    """Whether llguidance would let the excluded number itself through, 0 in 0 < x <= 0.5."""
    bound = schema.get(exclusive)
    if not isinstance(bound, int | float) or bound % 1 or schema.get("type") == "integer":
        return False
    others = [schema.get(name) for name in _BOUNDS if name != exclusive]
    return any(isinstance(other, int | float) and 0 < abs(other - bound) < 1 for other in others)


def _shown(value: Any) -> str:
    if isinstance(value, list | dict):
        return "a list" if isinstance(value, list) else "an object"
    return repr(value)[:50]
