"""JSON schemas and grammars as clients may send them: hostile ones by name, and any at all."""

from typing import Any

from hypothesis import strategies as st

KEYWORDS_WITHOUT_SUPPORT = {
    "not": {},
    "if": {},
    "contains": {},
    "uniqueItems": True,
    "propertyNames": {},
    "dependentRequired": {},
    "unevaluatedProperties": False,
    "$dynamicRef": "#",
}


def _nested(depth: int) -> dict[str, Any]:
    schema: dict[str, Any] = {}
    for _ in range(depth):
        schema = {"items": schema}
    return schema


# Schemas that are refused, with a word of the reason.
REFUSED_SCHEMAS: dict[str, tuple[dict[str, Any], str]] = {
    **{word: ({word: value}, f"'{word}'") for word, value in KEYWORDS_WITHOUT_SUPPORT.items()},
    "empty enum": ({"enum": []}, "anyOf is empty"),
    "empty anyOf": ({"anyOf": []}, "anyOf is empty"),
    "unknown type": ({"type": "foo"}, "foo"),
    "type that is a number": ({"type": 5}, "type"),
    "type that is empty": ({"type": []}, "anyOf is empty"),
    "bad pattern": ({"type": "string", "pattern": r"^[\d-\x]$"}, "hexadecimal"),
    "back reference": ({"type": "string", "pattern": r"^(a)\1$"}, "backreferences"),
    "look-ahead": ({"type": "string", "pattern": "(?=a)b"}, "look-around"),
    "negative length": ({"type": "string", "maxLength": -1}, "maxLength"),
    "length that is a text": ({"type": "string", "minLength": "3"}, "minLength"),
    "bounds crossed": ({"type": "integer", "minimum": 5, "maximum": 3}, "minimum"),
    "lengths crossed": ({"type": "string", "minLength": 5, "maxLength": 3}, "minLength"),
    "items crossed": ({"type": "array", "minItems": 5, "maxItems": 3}, "minItems"),
    "missing $ref": ({"$ref": "#/$defs/a"}, "no schema"),
    "remote $ref": ({"$ref": "https://example.com/schema"}, "no schema"),
    "$ref into a value": ({"enum": [{}], "properties": {"a": {"$ref": "#/enum/0"}}}, "no schema"),
    "$ref that is no text": ({"$ref": 5}, "$ref"),
    "self $ref": ({"$ref": "#"}, "no text"),
    "$ref in a circle": (
        {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}},
        "no text",
    ),
    "required and forbidden": (
        {"type": "object", "required": ["a"], "additionalProperties": False},
        "unsatisfiable",
    ),
    "required that is a text": ({"type": "object", "required": "a"}, "required"),
    "properties in a list": ({"properties": []}, "properties"),
    "schema that is a number": ({"properties": {"a": 5}}, "properties.a"),
    "unknown format": ({"type": "string", "format": "foo"}, "foo"),
    "names that may repeat": ({"type": "object", "minProperties": 3}, "minProperties"),
    "overlapping oneOf": ({"oneOf": [{"type": "number"}, {"type": "integer"}]}, "oneOf"),
    "3,000 properties": (
        {"properties": {f"p{index}": {"type": "string"} for index in range(3000)}},
        "properties",
    ),
    "long const": ({"const": "x" * 200_000}, "bytes"),
    "3,000 values": ({"enum": list(range(3000))}, "enum"),
    "whole number of 100 digits": ({"const": 10**100}, "64 bits"),
    "deep": (_nested(500), "deep"),
    "two trees at once": (
        {
            "allOf": [{"$ref": "#/$defs/one"}, {"$ref": "#/$defs/two"}],
            "$defs": {
                name: {"type": "object", "properties": {"child": {"$ref": f"#/$defs/{name}"}}}
                for name in ("one", "two")
            },
        },
        "intersection",
    ),
    "huge bounds": ({"type": "number", "minimum": -1e300, "maximum": 1e300}, "range"),
    "bound that would leak": ({"exclusiveMinimum": 0, "maximum": 0.5}, "exclusiveMinimum"),
    "many optional in each of many": (
        {
            "type": "object",
            "anyOf": [
                {
                    "properties": {f"p{index}": {} for index in range(300)},
                    "required": [f"r{branch}"],
                }
                for branch in range(5)
            ],
        },
        "items; max is 2000",
    ),
}


# Schemas that look as bad and that answers are held to all the same.
CONSTRAINING_SCHEMAS: dict[str, dict[str, Any]] = {
    "NUL in a name": {"type": "object", "properties": {"a\0b": {}}, "required": ["a\0b"]},
    "quote in a name": {"type": "object", "properties": {'a"\\/\n': {}}, "required": ['a"\\/\n']},
    "maxLength 100000": {"type": "string", "maxLength": 100_000},
    "minLength 1e9": {"type": "string", "minLength": 10**9},
    "maxItems 1e9": {"type": "array", "items": {"type": "integer"}, "maxItems": 10**9},
    "minItems 1e9": {"type": "array", "items": {"type": "integer"}, "minItems": 10**9},
    "a{99999}": {"type": "string", "pattern": "^a{99999}$"},
    "(a{999}){999}": {"type": "string", "pattern": "^(a{999}){999}$"},
    "many ways through": {"type": "string", "pattern": "^(a|aa|aaa|a*b)*c$"},
    "tree": {
        "$defs": {
            "node": {
                "type": "object",
                "properties": {"left": {"$ref": "#/$defs/node"}, "right": {"$ref": "#/$defs/node"}},
                "additionalProperties": False,
            }
        },
        "$ref": "#/$defs/node",
    },
    "no end": {"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]},
    "older draft": {
        "$schema": "http://json-schema.org/draft-04/schema#",
        "id": "https://example.com/a",
        "const": "a",
    },
    "tuple": {"type": "array", "items": [{"type": "null"}], "additionalItems": False},
    "all alike": {"enum": [1, 1, "1", None, [1], {"a": []}]},
    "anything": {},
}

REFUSED_GRAMMARS = {
    "syntax": ('start: "a" (', "Expected"),
    "no start": ('foo: "a"', "start"),
    "nothing but itself": ("start: start", "no text"),
    "rules in a circle": ("start: a\na: b\nb: a", "no text"),
    "terminal in itself": ("start: A\nA: A", "circular"),
    "unknown rule": ("start: foo", "foo"),
    "unknown grammar": ("start: @foo", "foo"),
    "llguidance's own form": ('{"grammars": [{"json_schema": {"not": {}}}]}', "Lark"),
    "options": ('%llguidance {"allow_invalid_utf8": true}\nstart: "a"', "%llguidance"),
    "hidden stop": ('start: a "b"\na[capture, stop="x"]: /.*/', "'stop'"),
    "temperature": ("start[temperature=0.5]: /a*/", "'temperature'"),
    "schema with more": ('start: %json {"not": {}}', "'not'"),
    "no schema": ("start: %json [", "'%json'"),
    "deep": ("start: " + "(" * 5000 + '"a"' + ")" * 5000, "nested"),
    "long chain": (
        "start: r0\n" + "\n".join(f"r{i}: r{i + 1}" for i in range(4000)) + '\nr4000: "a"',
        "lines",
    ),
    "large": ("start: " + '"a" ' * 50_000, "bytes"),
}

CONSTRAINING_GRAMMARS = {
    "huge repetition": 'start: "a"{1,99999999}',
    "left recursion": 'start: start "a" | "a"',
    "right recursion": 'start: "a" start | "a"',
    "ambiguous": 'start: s\ns: s s | "a" | "b" | s s s',
    "repetition of nothing": 'start: (("a"*)*)*',
}

_NAMES = st.sampled_from(["a", "b", "name", "größe", 'q"', ""])
_TEXTS = st.text(st.sampled_from('abc 1"\\\n/é🙂'), max_size=6)
_NUMBERS = st.one_of(st.integers(-20, 20), st.sampled_from([0.5, -1.25, 1e3, 2**53, -1e-3]))
_VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), _NUMBERS, _TEXTS),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_NAMES, inner, max_size=3),
    max_leaves=4,
)
_COUNTS = st.integers(0, 4)
_TYPES = st.sampled_from(["null", "boolean", "integer", "number", "string", "array", "object"])
_PATTERNS = st.sampled_from(["^a", "b$", "^[a-c]{2,4}$", "a|b", "", r"\d", r"^\w+$", "^é", "[^a]"])
_FORMATS = st.sampled_from(["date", "time", "date-time", "uuid", "ipv4", "email", "duration"])


def _schemas_of(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Schemas over others; each keyword may be there or not, fitting or not."""
    inner = st.booleans() | inner
    keywords: dict[str, st.SearchStrategy[Any]] = {
        "type": _TYPES | st.lists(_TYPES, min_size=1, max_size=3, unique=True),
        "properties": st.dictionaries(_NAMES, inner, max_size=4),
        "required": st.lists(_NAMES, max_size=3, unique=True),
        "additionalProperties": inner,
        "patternProperties": st.dictionaries(_PATTERNS, inner, max_size=2),
        "minProperties": _COUNTS,
        "maxProperties": _COUNTS,
        "items": inner,
        "prefixItems": st.lists(inner, max_size=3),
        "minItems": _COUNTS,
        "maxItems": _COUNTS,
        "minLength": _COUNTS,
        "maxLength": _COUNTS,
        "pattern": _PATTERNS,
        "format": _FORMATS,
        "minimum": _NUMBERS,
        "maximum": _NUMBERS,
        "exclusiveMinimum": _NUMBERS,
        "exclusiveMaximum": _NUMBERS,
        "multipleOf": st.sampled_from([1, 2, 0.5, 3]),
        "enum": st.lists(_VALUES, max_size=4),
        "const": _VALUES,
        "anyOf": st.lists(inner, min_size=1, max_size=3),
        "oneOf": st.lists(inner, min_size=1, max_size=2),
        "allOf": st.lists(inner, min_size=1, max_size=2),
        "$ref": st.sampled_from(["#", "#/$defs/d", "#/properties/a"]),
        "$defs": st.fixed_dictionaries({"d": inner}),
    }
    return st.lists(st.sampled_from(sorted(keywords)), max_size=4, unique=True).flatmap(
        lambda chosen: st.fixed_dictionaries({word: keywords[word] for word in chosen})
    )


ANY_SCHEMA = st.recursive(
    _schemas_of(st.fixed_dictionaries({"type": _TYPES})), _schemas_of, max_leaves=6
)
