"""Marks: special tokens that chat templates write, and that no other text may become."""

import os.path
import re
from collections import defaultdict
from collections.abc import Collection, Iterable
from functools import lru_cache
from itertools import pairwise
from typing import Literal

# Does not occur in text by accident; templates may assemble them from parts.
_UNMISTAKABLE = re.compile(r"<[|\uff5c][^\s<>]+>|<[^\s<>]+[|\uff5c]>")
Marks = Literal["none", "other", "all"]
ROLES = frozenset(["system", "developer", "user", "assistant", "tool"])
_LIKE_A_MARK = re.compile(r"[^\w\s▁]\S*\w\S*[^\w\s▁]")
_PADDING = " \t\r\n▁"


@lru_cache(maxsize=16)
def marks_of(
    control: tuple[str, ...], others: tuple[str, ...], written: tuple[str, ...]
) -> tuple[str, ...]:
    """Spellings of the tokens that a template may use as marks.

    ``others`` are spellings that llama.cpp recognises in any text: marks, runs of blanks or HTML
    tags. Those that occur in ``written``, the template's own texts, may be marks.
    """
    found = {spelling.strip(_PADDING) for spelling in control}
    text = "\0".join(written)
    for spelling in others:
        core = spelling.strip(_PADDING)
        if _UNMISTAKABLE.fullmatch(core) or (_LIKE_A_MARK.fullmatch(core) and core in text):
            found.add(core)
    # A single character cannot be cut.
    return tuple(sorted(mark for mark in found if len(mark) > 1))


def is_unmistakable(text: str) -> bool:
    """Whether a text can only be a mark, such as ``<|start|>`` or ``<channel|>``."""
    return bool(_UNMISTAKABLE.fullmatch(text))


def is_written(mark: str, template: str) -> bool:
    """Whether a template may write a mark, in full or around the name of a role."""
    return mark in template or mark.strip("<|>") in ROLES


def split_marks(text: str, marks: tuple[str, ...], untrusted: bytes | bytearray) -> list[str]:
    """Cut a text inside every mark that the template has not written in full.

    ``untrusted`` has one byte per character: 0 if the template wrote it, else 1. Returns pieces to
    tokenise separately; every mark in one of them is the template's.
    """
    pattern = _pattern(marks)
    if pattern is None:
        return [text]
    places = [0]
    for match in pattern.finditer(text):
        start = match.start()
        first = untrusted.find(1, start, match.end(match.lastindex or 0))
        # Cut beside an untrusted character, so that marks of the template stay whole.
        if first >= 0:
            places.append(max(first, start + 1))
    return [text[start:end] for start, end in pairwise([*dict.fromkeys(places), len(text)])]


@lru_cache(maxsize=16)
def _pattern(marks: tuple[str, ...]) -> re.Pattern[str] | None:
    """Finds the longest mark at each position; the last group ends at the mark's end.

    Only the first character is consumed, so that overlapping marks are found.
    """
    branches = [
        f"{re.escape(first)}(?=({_any_of(tails)}))" for first, tails in _by_first(marks).items()
    ]
    return re.compile("|".join(branches)) if branches else None


def _any_of(words: Collection[str]) -> str:
    """A pattern for the longest of ``words``, as a prefix tree."""
    start = os.path.commonprefix(list(words))  # noqa: RUF071 (of characters, indeed)
    tails = _by_first(word[len(start) :] for word in words)
    branches = "|".join(re.escape(first) + _any_of(rest) for first, rest in tails.items())
    if not branches:
        return re.escape(start)
    return f"{re.escape(start)}(?:{branches}){'?' if start in words else ''}"


def _by_first(words: Iterable[str]) -> dict[str, set[str]]:
    tails = defaultdict(set)
    for word in words:
        if word:
            tails[word[0]].add(word[1:])
    return tails
