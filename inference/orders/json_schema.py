"""Reduce clients' JSON schemas to constraints that llguidance enforces: pure.

llguidance silently ignores some keywords. Those are refused, or left out and reported by a lenient
reader; annotations are dropped. The limits keep compile times below a second.
"""

from dataclasses import dataclass
from typing import Any, Final, cast
from urllib.parse import unquote

import msgspec

from inference.errors import InvalidRequestError
from inference.orders import schema_keywords as keywords
from inference.orders.tools.json_scan import depth_of

MAX_SCHEMA_BYTES = 60_000
MAX_SCHEMAS = 2_000
MAX_DEPTH = 32
# Annotations included.
MAX_NESTING = 200
# Each optional property is one more way to continue; llguidance follows at most 2,000 at once.
MAX_PROPERTIES = 400
MAX_ENUM_VALUES = 1_000
# Between the tokens of a JSON text; without a bound a small model may never stop indenting.
WHITESPACE = r"( |\n{1,2}[ \t]{0,20})"
ANY_OBJECT: Final[dict[str, Any]] = {"type": "object"}

Path = tuple[str, ...]


@dataclass(frozen=True)
class EnforcedSchema:
    """The enforced part of a schema, and the keywords left out of it; "" stands for all."""

    schema: dict[str, Any]
    unenforced: tuple[str, ...] = ()


def read_schema(schema: dict[str, Any], param: str) -> dict[str, Any]:
    """The constraints of a JSON schema, without its annotations.

    Give llguidance this and not the original: with some values of ``$schema`` it ignores keywords
    that it otherwise enforces. An object that only lists ``properties`` is closed, although JSON
    schema allows further ones: a weak model would invent them.
    """
    return _SchemaReader(param).read_root(schema)


def read_leniently(schema: dict[str, Any], param: str) -> EnforcedSchema:
    """The enforceable constraints of a JSON schema; any object if the schema is invalid."""
    reader = _SchemaReader(param, is_lenient=True)
    try:
        read = reader.read_root(schema)
        if reader.dangling:
            reader = _SchemaReader(param, is_lenient=True, without=reader.dangling)
            read = reader.read_root(schema)
    except InvalidRequestError:
        return EnforcedSchema(ANY_OBJECT, ("",))
    return EnforcedSchema(read, tuple(dict.fromkeys(reader.unenforced)))


def relaxations(enforced: EnforcedSchema) -> list[EnforcedSchema]:
    """Weaker schemas to try in turn if one does not compile; the last allows any object."""
    removed = list(enforced.unenforced)

    def relaxed(schema: Any) -> Any:
        if isinstance(schema, list):
            return [relaxed(item) for item in schema]
        if not isinstance(schema, dict):
            return schema
        read = {}
        for keyword, value in schema.items():
            if keyword in keywords.REGULAR_EXPRESSIONS:
                removed.append(keyword)
            elif keyword in keywords.VALUES | keywords.CONSTRAINTS:
                read[keyword] = value
            elif keyword in keywords.SCHEMA_MAPS:
                read[keyword] = {name: relaxed(item) for name, item in value.items()}
            elif keyword == "oneOf" and "anyOf" not in schema:
                removed.append(keyword)
                read["anyOf"] = relaxed(value)
            else:
                read[keyword] = relaxed(value)
        return read

    schema = relaxed(enforced.schema)
    return [
        EnforcedSchema(schema, tuple(dict.fromkeys(removed))),
        EnforcedSchema(ANY_OBJECT, ("",)),
    ]


def schema_text(schema: dict[str, Any]) -> str:
    """A schema from ``read_schema`` as text for ``%json``, with limited white space."""
    options = {"x-guidance": {"whitespace_pattern": WHITESPACE}}
    return msgspec.json.encode(schema | options).decode()


class _SchemaReader:
    """Copies constraints; a lenient reader leaves out keywords (``unenforced``) it would refuse."""

    def __init__(
        self, param: str, *, is_lenient: bool = False, without: frozenset[str] = frozenset()
    ) -> None:
        self._param = param
        self._is_lenient = is_lenient
        self._without = without
        self._paths: set[Path] = set()
        self._references: list[str] = []
        # Schemas that are referred to where several describe the same object: never closed.
        self._shared: set[Path] = set()
        self.unenforced: list[str] = []
        self.dangling: frozenset[str] = frozenset()

    def read_root(self, schema: dict[str, Any]) -> dict[str, Any]:
        if depth_of(schema) > MAX_NESTING:
            raise self._refused(f"is nested more than {MAX_NESTING} deep")
        objects = list(keywords.objects_in(schema))
        if any(map(keywords.combines_descriptions, objects)):
            references = [item.get("$ref") for item in objects]
            self._shared = {_path_of(ref) for ref in references if isinstance(ref, str)}
        read = cast("dict[str, Any]", self._read(schema, (), closes=True))
        self.dangling = frozenset(
            reference
            for reference in self._references
            if not reference.startswith("#") or _path_of(reference) not in self._paths
        )
        if self.dangling and not self._is_lenient:
            reference = min(self.dangling)
            raise self._refused(f"has a $ref to {reference[:100]!r}, where there is no schema")
        try:
            size = len(msgspec.json.encode(read))
        except UnicodeEncodeError:
            raise self._refused("has a lone UTF-16 surrogate") from None
        if size > MAX_SCHEMA_BYTES:
            raise self._refused(
                f"has {size} bytes without its annotations; at most {MAX_SCHEMA_BYTES} are allowed"
            )
        return read

    def _read(self, schema: Any, path: Path, *, closes: bool) -> dict[str, Any] | bool:
        """Read the schema at ``path``; ``closes``: no other schema describes the same object."""
        self._paths.add(path)
        closes = closes and path not in self._shared
        if len(self._paths) > MAX_SCHEMAS or len(path) > 2 * MAX_DEPTH:
            raise self._refused(
                f"is too large: at most {MAX_SCHEMAS} nested schemas, {MAX_DEPTH} deep, are allowed"
            )
        if isinstance(schema, bool):
            return schema
        if not isinstance(schema, dict):
            raise self._refused(f"has {keywords.shown(schema)} where a schema belongs", path)
        given = keywords.modernised(schema)
        schema = self._enforceable(given, path)
        alone = closes and not keywords.combines_descriptions(schema)
        read = {}
        for keyword, value in schema.items():
            if keyword in keywords.CONSTRAINTS:
                read[keyword] = value
            elif keyword in keywords.NESTED:
                below = alone or keyword in keywords.DEFINITIONS
                read[keyword] = self._read_keyword(keyword, value, path, closes=below)
        if closes and keywords.only_lists_properties(given):
            read["additionalProperties"] = False
        return read

    def _enforceable(self, schema: dict[str, Any], path: Path) -> dict[str, Any]:
        faults = keywords.unenforceable(schema)
        if isinstance(schema.get("$ref"), str) and schema["$ref"] in self._without:
            faults.append(("$ref", "has a $ref to nothing"))
        if faults and not self._is_lenient:
            raise self._refused(min(faults)[1], path)
        left_out = sorted({keyword for keyword, _ in faults})
        self.unenforced += left_out
        return {key: value for key, value in schema.items() if key not in left_out}

    def _read_keyword(self, keyword: str, value: Any, path: Path, *, closes: bool) -> Any:
        below = (*path, keyword)
        if keyword == "$ref":
            if not isinstance(value, str):
                raise self._refused(f"has {keywords.shown(value)} as '$ref', not a text", path)
            self._references.append(value)
            return value
        if keyword in keywords.VALUES:
            if keyword == "enum" and isinstance(value, list) and len(value) > MAX_ENUM_VALUES:
                raise self._refused(f"has an enum of more than {MAX_ENUM_VALUES} values", path)
            self._check_value(value, path)
            return value
        if keyword in keywords.SCHEMA_LISTS or (keyword == "items" and isinstance(value, list)):
            if not isinstance(value, list):
                raise self._refused(f"has {keywords.shown(value)} as {keyword!r}, not a list", path)
            return [
                self._read(item, (*below, str(index)), closes=closes)
                for index, item in enumerate(value)
            ]
        if keyword in keywords.SCHEMA:
            return self._read(value, below, closes=closes)
        if not isinstance(value, dict):
            raise self._refused(f"has {keywords.shown(value)} as {keyword!r}, not an object", path)
        if len(value) > MAX_PROPERTIES:
            raise self._refused(f"has more than {MAX_PROPERTIES} {keyword!r}", path)
        return {
            name: self._read(item, (*below, name), closes=closes) for name, item in value.items()
        }

    def _check_value(self, value: Any, path: Path, depth: int = 0) -> None:
        if depth > MAX_DEPTH:
            raise self._refused("has a value nested too deeply", path)
        if isinstance(value, list | dict):
            for item in value.values() if isinstance(value, dict) else value:
                self._check_value(item, path, depth + 1)
        elif isinstance(value, int) and not -(2**63) <= value < 2**64:
            raise self._refused("has a whole number of more than 64 bits", path)

    def _refused(self, reason: str, path: Path = ()) -> InvalidRequestError:
        at = f", at {'.'.join(path)[:200]}," if path else ""
        return InvalidRequestError(
            f"The JSON schema in {self._param!r}{at} {reason}. Change it.",
            param=self._param,
            code="unsupported_schema",
        )


def _path_of(reference: str) -> Path:
    parts = unquote(reference).split("/")[1:]
    return tuple(part.replace("~1", "/").replace("~0", "~") for part in parts)
