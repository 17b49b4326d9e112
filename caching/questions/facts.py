"""Facts of a question: the words that are compared, and all that two questions must share."""

import hashlib
import re
import unicodedata
from dataclasses import dataclass
from functools import cached_property

from .tokens import plain, tokens_of
from .words import ENGLISH, FRONTING, HOW, QUESTION, SHARED, TIME, TIME_MISTYPED, is_slip

MAX_WORDS = 60
MAX_CHARACTERS = 600

_HOW = [tuple(frame.split()) for frame in HOW.split("|")]


@dataclass(frozen=True)
class Facts:
    """All that decides whether two questions have one answer."""

    words: tuple[str, ...]
    names: frozenset[str]  # words with a capital inside a sentence
    shared: tuple[tuple[str, tuple[str, ...]], ...]  # equal wherever the guard lets an answer pass

    @cached_property
    def digest(self) -> bytes:
        """SHA-256 of the shared facts; an index on it finds nearly only texts that may match."""
        return hashlib.sha256(repr(self.shared).encode()).digest()


def out_of_bounds(text: str) -> str:
    """The reason why a text is not compared with others; "" when it is compared."""
    if len(text) > MAX_CHARACTERS or len(text.split()) > MAX_WORDS:
        return f"longer than {MAX_WORDS} words or {MAX_CHARACTERS} characters"
    if "```" in text or "~~~" in text:
        return "a block of code"
    text = plain(text)
    letters = [c for c in text if c.isalpha()]
    if not letters:
        return "no words"
    categories = {unicodedata.category(c) for c in text if c not in "\t\n\r"}
    if categories & {"Cf", "Cc", "Co", "Mn", "Me"}:
        return "invisible characters"
    if not text.isascii():
        if sum(not _is_latin(c) for c in letters) > 0.1 * len(letters):
            return "letters outside Latin"
        for word in text.split():
            if len({_is_latin(c) for c in word if c.isalpha()}) > 1:
                return "a word of two alphabets"
    words = " ".join(tokens_of(text).words).lower()
    if TIME.search(words) or any(
        is_slip(word, time) for word in words.split() for time in TIME_MISTYPED
    ):
        return "an answer that depends on the time"
    if not ENGLISH.intersection(re.findall("[a-z]+", words)):
        return "no English sentence"
    return ""


def facts_of(text: str) -> Facts | None:
    """The facts of a text; None where it is out of bounds."""
    if out_of_bounds(text):
        return None
    tokens = tokens_of(text)
    words = _with_one_frame(tokens.words)
    shared = (
        ("kind of question", tuple(word for word in words if word in QUESTION)),
        ("numbers, symbols or code", tokens.exact),
        *(
            (name, tuple(sorted(word for word in words if word.lower() in listed)))
            for name, listed in SHARED.items()
        ),
    )
    return Facts(words, tokens.names, shared)


def _with_one_frame(words: tuple[str, ...]) -> tuple[str, ...]:
    """The words with "how do I" for every beginning that asks for the same steps.

    "Tell me how I register" comes without its first words. A short question may depend on
    its frame: "How do I look?", "How to look?".
    """
    if words[:2] == ("how", "i"):
        words = ("how", "do", *words[1:])
    starts = range(len(words)) if words and words[0] in FRONTING else range(1)
    for start in starts:
        for frame in _HOW:
            end = start + len(frame)
            if words[start:end] == frame and len(words) > len(frame) + 1:
                return (*words[:start], "how", "do", "i", *words[end:])
    return words


def _is_latin(letter: str) -> bool:
    return ord(letter) < 0x250 or 0x1E00 <= ord(letter) < 0x1F00
