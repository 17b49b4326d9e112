"""Marks of a template: tokens that text from outside may spell out and must never become."""

import os.path
import re
from collections import defaultdict
from collections.abc import Collection, Iterable
from functools import lru_cache
from itertools import pairwise
from typing import Literal

# No text has those by accident; templates may put them together from parts.
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

    Args:
        control: spellings of control tokens.
        others: spellings of tokens that llama.cpp reads in any text: marks of some models, runs of
            blanks or HTML tags of others.
        written: the texts that the template writes out; they tell the one from the other.
    """
    found = {spelling.strip(_PADDING) for spelling in control}
    text = "\0".join(written)
    for spelling in others:
        core = spelling.strip(_PADDING)
        if _UNMISTAKABLE.fullmatch(core) or (_LIKE_A_MARK.fullmatch(core) and core in text):
            found.add(core)
    # A single character cannot be spelled in two pieces.
    return tuple(sorted(mark for mark in found if len(mark) > 1))


def is_unmistakable(text: str) -> bool:
    """True for a text that can be nothing but a mark: ``<|start|>``, ``<channel|>``."""
    return bool(_UNMISTAKABLE.fullmatch(text))


def is_written(mark: str, template: str) -> bool:
    """True for a mark that a template may write, as it stands or around the name of a role."""
    return mark in template or mark.strip("<|>") in ROLES


def split_marks(text: str, marks: tuple[str, ...], outside: bytes | bytearray) -> list[str]:
    """Cut a text inside every mark that is not wholly the template's own.

    Args:
        text: what is to be tokenised, piece by piece.
        marks: as ``marks_of`` gives them.
        outside: for each character, 1 where it comes from outside and 0 where the template wrote
            it.

    Returns:
        Pieces in order; every mark in one of them is the template's.
    """
    pattern = _pattern(marks)
    if pattern is None:
        return [text]
    places = [0]
    for match in pattern.finditer(text):
        start = match.start()
        first = outside.find(1, start, match.end(match.lastindex or 0))
        # Beside a character from outside: marks of the template itself stay whole.
        if first >= 0:
            places.append(max(first, start + 1))
    return [text[start:end] for start, end in pairwise([*dict.fromkeys(places), len(text)])]


@lru_cache(maxsize=16)
def _pattern(marks: tuple[str, ...]) -> re.Pattern[str] | None:
    """Finds the longest mark at each place; only its first character is consumed.

    The last group ends where the mark ends.
    """
    branches = [
        f"{re.escape(first)}(?=({_any_of(tails)}))" for first, tails in _by_first(marks).items()
    ]
    return re.compile("|".join(branches)) if branches else None


def _any_of(words: Collection[str]) -> str:
    """A pattern for the longest of some words, which tries no more of them than it must."""
    start = os.path.commonprefix(list(words))  # noqa: RUF071 (of characters, indeed)
    tails = _by_first(word[len(start) :] for word in words)
    branches = "|".join(re.escape(first) + _any_of(rest) for first, rest in tails.items())
    if not branches:
        return re.escape(start)
    return f"{re.escape(start)}(?:{branches}){'?' if start in words else ''}"


def _by_first(words: Iterable[str]) -> dict[str, set[str]]:
    """Words by their first characters, without them."""
    tails = defaultdict(set)
    for word in words:
        if word:
            tails[word[0]].add(word[1:])
    return tails
