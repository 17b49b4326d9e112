"""Keywords of JSON schemas: which llguidance enforces, and which leave an object open. Pure."""

from collections.abc import Iterator
from typing import Any, Final

BOUNDS: Final = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")
_EXCLUSIVE: Final = {"minimum": "exclusiveMinimum", "maximum": "exclusiveMaximum"}
CONSTRAINTS: Final = frozenset(
    [
        *BOUNDS,
        *("type", "required", "pattern", "format", "multipleOf"),
        *("minItems", "maxItems", "minProperties", "maxProperties", "minLength", "maxLength"),
    ]
)
VALUES: Final = frozenset(["const", "enum"])
SCHEMA: Final = frozenset(["items", "additionalItems", "additionalProperties"])
SCHEMA_LISTS: Final = frozenset(["prefixItems", "anyOf", "oneOf", "allOf"])
DEFINITIONS: Final = frozenset(["$defs", "definitions"])
SCHEMA_MAPS: Final = DEFINITIONS | {"properties", "patternProperties"}
# Keywords whose values are checked or are schemas themselves.
NESTED: Final = VALUES | SCHEMA | SCHEMA_LISTS | SCHEMA_MAPS | {"$ref"}
REGULAR_EXPRESSIONS: Final = frozenset(["pattern", "format", "patternProperties"])
_UNENFORCED: Final = frozenset(
    [
        *("not", "if", "then", "else", "contains", "minContains", "maxContains", "uniqueItems"),
        *("propertyNames", "dependentRequired", "dependentSchemas", "dependencies"),
        *("unevaluatedProperties", "unevaluatedItems", "$dynamicRef", "$recursiveRef"),
    ]
)
_CHOICES: Final = frozenset(["anyOf", "oneOf", "allOf"])
_DESCRIBING: Final = _CHOICES | {
    *("$ref", "properties", "patternProperties", "additionalProperties"),
}
# With one of these an object may have properties that `properties` does not name.
OPEN_ENDED: Final = frozenset(
    [
        *(*_CHOICES, "$ref", "additionalProperties", "patternProperties", "unevaluatedProperties"),
        *("minProperties", "if", "then", "else", "dependentSchemas", "dependencies"),
    ]
)
_TYPES: Final = frozenset(["object", "array", "string", "number", "integer", "boolean", "null"])


def modernised(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema without nulls and with draft 4's Boolean exclusive bounds as numbers."""
    read = {key: value for key, value in schema.items() if value is not None or key == "const"}
    for inclusive, exclusive in _EXCLUSIVE.items():
        if isinstance(read.get(exclusive), bool) and read.pop(exclusive) and inclusive in read:
            read[exclusive] = read.pop(inclusive)
    return read


def unenforceable(schema: dict[str, Any]) -> list[tuple[str, str]]:
    """Keywords that llguidance ignores, or ignores with these values, each with the reason."""
    faults = [
        (keyword, f"has the keyword {keyword!r}, which is not supported")
        for keyword in schema.keys() & _UNENFORCED
        if schema[keyword] is not False or keyword.startswith("unevaluated")
    ]
    types = schema.get("type", [])
    names = types if isinstance(types, list) else [types]
    if not all(isinstance(name, str) and name in _TYPES for name in names):
        faults.append(("type", f"has the type {shown(types)}, which JSON schema does not define"))
    required, least = schema.get("required", []), schema.get("minProperties", 0)
    if not isinstance(required, list):
        faults.append(("required", "has a 'required' that is not a list"))
    # Additional names may repeat, and a JSON reader counts a repeated name once.
    elif isinstance(least, int) and least > len(required) + 1:
        reason = "has a 'minProperties' above 1 + the number of 'required'"
        faults.append(("minProperties", reason))
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
        if _allows_bound(schema, keyword)
    ]
    return faults


def _allows_bound(schema: dict[str, Any], exclusive: str) -> bool:
    """Whether llguidance would allow the excluded number itself: 0 in 0 < x <= 0.5."""
    bound = schema.get(exclusive)
    if not isinstance(bound, int | float) or bound % 1 or schema.get("type") == "integer":
        return False
    others = [schema.get(name) for name in BOUNDS if name != exclusive]
    return any(isinstance(other, int | float) and 0 < abs(other - bound) < 1 for other in others)


def only_lists_properties(schema: dict[str, Any]) -> bool:
    """Whether a schema describes no properties beside those that ``properties`` lists."""
    listed, required = schema.get("properties"), schema.get("required", [])
    if not isinstance(listed, dict) or not listed or not isinstance(required, list):
        return False
    others = schema.keys() & OPEN_ENDED
    if schema.get("unevaluatedProperties") is False:
        others -= {"unevaluatedProperties"}
    for keyword in _CHOICES & others:
        branches = schema[keyword]
        if isinstance(branches, list) and not any(map(_describes_properties, branches)):
            others -= {keyword}
    return not others and all(name in listed for name in required if isinstance(name, str))


def combines_descriptions(schema: dict[str, Any]) -> bool:
    """Whether several parts of a schema describe properties of the same object."""
    parts = len(schema.keys() & {"$ref", "properties"})
    for keyword in _CHOICES & schema.keys():
        branches = schema[keyword] if isinstance(schema[keyword], list) else []
        describing = sum(map(_describes_properties, branches))
        # A value matches one branch of `anyOf` or `oneOf` at a time.
        parts += describing if keyword == "allOf" else min(describing, 1)
    return parts > 1


def _describes_properties(schema: Any) -> bool:
    return isinstance(schema, dict) and bool(schema.keys() & _DESCRIBING)


def objects_in(value: Any) -> Iterator[dict[str, Any]]:
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, dict):
            yield item
            waiting += item.values()
        elif isinstance(item, list):
            waiting += item


def shown(value: Any) -> str:
    if isinstance(value, list | dict):
        return "a list" if isinstance(value, list) else "an object"
    return repr(value)[:50]
