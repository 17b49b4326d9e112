"""Short answers read out of texts, so that the answers of several models can be counted."""

import json
import re
from decimal import Context, Decimal
from typing import Any, Literal

AnswerKind = Literal["number", "choice", "yes_no", "json", "open"]
MAX_QUESTION = 2_000  # characters; a longer text asks for more than a word
# "One" is left out: it is seldom a number.
NUMERALS = {"zero": "0", "two": "2", "three": "3", "four": "4", "five": "5", "six": "6"}
NUMERALS |= {"seven": "7", "eight": "8", "nine": "9", "ten": "10", "eleven": "11", "twelve": "12"}
_NUMBER = r"(?<![\w.])-?(?:\d+(?:,\d{3})*(?:\.\d+)?|\.\d+)(?:e[+-]?\d+\b)?(?:/\d+)?"
# A fenced block, to the end of the text if nothing closes it.
FENCED = r"^ {0,3}(`{3,}+|~{3,}+)[^\n]*+\n(?:.*?^ {0,3}\1[`~]*+[ \t]*+(?:\n|\Z)|.*)"
_THOUGHT = re.compile(
    rf"{FENCED}|^[ \t]*+<think>(?:.*?</think>|.*)|^[ \t]*+(</think>)", re.M | re.S
)
_FREE = re.compile(r"\b(?:explain|why|describe|list|write|prove|compare|discuss|summari[sz]e)\b")
_OPERAND = r"[-(]*\d[\d.,)]*"
_SUM = re.compile(
    rf"(?:^|what is|what's|calculate|compute|evaluate|:) ?{_OPERAND}"
    rf"(?: ?(?:\*\*|[-+*/x\xd7\xf7^%]) ?{_OPERAND})+ ?=? ?[?.]?$"
)
_OPTION = re.compile(r"(?:^[ \t]*|[ \t])\(?([A-J])\)|^[ \t]*([A-J])[.:]", re.MULTILINE)
_EITHER = re.compile(r"\b(?:yes|true)(?: or |/)(?:no|false)\b")
_ASKS_FACT = re.compile(r"(?:^|[.!:] )(?:is|are|was|were|do|does|did|has|have) ([^.?!]{3,120})\?$")
_NOT_FACT = re.compile(r"\b(?:or|you|there|how|wh[aeioy]\w*)\b")
_BOXED = re.compile(r"\\boxed\s*\{((?:[^{}]|\{[^{}]*\})*)\}")
_FRACTION = re.compile(r"\\[dt]?frac\{(\d+)\}\{(\d+)\}")
_ANSWER = re.compile(r"^[^\w\n]*(?:the |final )*answer(?: is)?[* ]*:[* ]*(\S.*)$", re.I | re.M)
# By kind: the word said as the answer, and the word that a text or its last line begins with.
_SAID = {"choice": r"\b(?:answer|option|choice)(?: is)?:? ?[(*]*((?-i:[A-J]))\b"}
_SAID["yes_no"] = r"\banswer is:? ?[*]*(yes|no|true|false)\b"
_BEGINS = {"choice": r"\W*([A-J])(?:[).:*}]|\W*$)", "yes_no": r"\W*(yes|no|true|false)\b"}


def answer_kind(question: str, *, is_constrained: bool) -> AnswerKind:
    """The form of the answer that a question asks for; "open" wherever it is not clear."""
    if is_constrained:
        return "json"
    if len(question) > MAX_QUESTION or question.count("?") > 1:
        return "open"
    words = " ".join(question.lower().split())
    letters = [first or second for first, second in _OPTION.findall(question)]
    if letters[:2] == ["A", "B"] and ("?" in words or re.search("choose|select|which", words)):
        return "choice"
    fact = _ASKS_FACT.search(words)
    if _EITHER.search(words) or (fact and not _NOT_FACT.search(fact[1])):
        return "yes_no"
    # "How many" names the unit that is counted; "how much" and "how far" leave it open.
    is_number = ("how many " in words and not _FREE.search(words)) or _SUM.search(words)
    return "number" if is_number else "open"


def extracted(text: str, kind: AnswerKind) -> str | None:
    """The answer, alike for all that are equal: from a box, a line "Answer: ...", or the rest."""
    text = shown(text)
    if kind in ("open", "json"):
        return _json_of(text) if kind == "json" else None
    text = _FRACTION.sub(r"\1/\2", text).replace("{,}", ",").replace("\u2212", "-")
    for part in (*_BOXED.findall(text)[-1:], *_ANSWER.findall(text)[-1:], text):
        found = numbers_of(part)[-1:] if kind == "number" else _words_of(part, kind)
        if len(found) == 1:
            return found.pop()
    return None


def shown(text: str) -> str:
    """The text without thoughts, whose marks begin a line outside code.

    A template may have opened the first in the prompt.
    """
    if "think>" not in text:
        return text
    kept: list[str] = []
    start = 0
    for match in _THOUGHT.finditer(text):
        if not match[1]:
            kept = [] if match[2] else [*kept, text[start : match.start()]]
            start = match.end()
    return "".join([*kept, text[start:]]).strip()


def number(text: str) -> str:
    """One spelling for equal numbers: 1,000 and 1000.0, 1/2 and 0.5."""
    above, _, below = text.replace(",", "").partition("/")
    try:
        value = Decimal(above).normalize(Context(prec=len(above)))
        value = value / Decimal(below) if below else value
    except ArithmeticError:  # a division by zero, or an exponent without bounds
        return text.lower()
    return (f"{value:f}" if abs(value.adjusted()) < 40 else str(value)) if value else "0"


def numbers_of(text: str) -> list[str]:
    """The numbers of a text; without digits, the words up to twelve."""
    words = (NUMERALS[word] for word in re.findall("[a-z]+", text.lower()) if word in NUMERALS)
    return [number(found) for found in re.findall(_NUMBER, text, re.IGNORECASE)] or [*words]


def _words_of(text: str, kind: str) -> set[str]:
    """The letters or verdicts that a text gives; several contradict each other."""
    starts = (re.match(_BEGINS[kind], end, re.I) for end in (text, text.strip().split("\n")[-1]))
    words = set(re.findall(_SAID[kind], text, re.I)) or {found[1] for found in starts if found}
    return {{"true": "yes", "false": "no"}.get(word.lower(), word.lower()) for word in words}


def _json_of(text: str) -> str | None:
    numbers: Any = {"parse_float": Decimal, "parse_int": Decimal, "parse_constant": int}
    try:  # int refuses "NaN"
        return _written(json.loads(text, **numbers))
    except (ValueError, ArithmeticError, RecursionError):
        return None


def _written(value: Any) -> str:
    if isinstance(value, dict):
        return f"{{{','.join(f'{json.dumps(k)}:{_written(value[k])}' for k in sorted(value))}}}"
    if isinstance(value, list):
        return f"[{','.join(map(_written, value))}]"
    return number(str(value)) if isinstance(value, Decimal) else json.dumps(value)
