"""Fit a text between two models into a number of tokens; nothing is cut in silence."""

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from itertools import pairwise

from inference.errors import CompressionFailedError
from inference.orchestration.answers import FENCED, shown

_ITERATIONS, _MARGIN = 3, 0.9
CODE = re.compile(FENCED, re.M | re.S)
# A number at the start of a line, an initial, "Dr." and a wrapped line end no sentence.
_SENTENCE = re.compile(
    r"(?s)(?:[ \t]*+\d++[.)][ \t])?+.+?(?:[\u3002\uff01\uff1f]|(?=\n[ \t]*+(?:[^a-z\s]|\s|\Z))|\Z|"
    r"(?<!\b[A-Z])(?<!\b[A-Z][a-z])[.!?…][\"')\]*]*+(?=\s+[^a-z\s]|\s*\Z))\s*+"
)
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
_NAME = re.compile(r"(?<=[^\W_][ ,]) ?[A-Z]\w+")
_CONSTRAINT = re.compile(
    r"(?i)\b(?:must|never|only|always|not|no|cannot|requires?|required|errors?|fail(?:s|ed|ure)?|"
    r"decided|decisions?|constraints?|open|questions?|answer|result|conclusion|therefore)\b|n't\b"
)
Count = Callable[[str], Awaitable[int]]
Shorten = Callable[[str, int], Awaitable[str]]


@dataclass(frozen=True)
class Fitted:
    """A text that fits, its tokens before and after, and the tries to rewrite it."""

    text: str
    before: int
    after: int
    iterations: int = 0


async def fit(text: str, most_tokens: int, *, count: Count, shorten: Shorten | None) -> Fitted:
    """The text in at most ``most_tokens``; unchanged if it fits.

    First reasoning and repetition go, then light sentences, then ``shorten`` rewrites prose to a
    number of tokens; it splits what its model cannot read at once. Without it, more sentences go.
    Raises ``CompressionFailedError`` if the text stays too long.
    """
    before = await count(text)
    if before <= most_tokens:
        return Fitted(text, before, before)
    text = _cleaned(text)
    tokens = await count(text)
    if tokens > most_tokens:
        text, tokens = await _extracted(text, tokens, most_tokens, count, 0.5 if shorten else 0)
    iterations = 0
    while shorten and tokens > most_tokens and iterations < _ITERATIONS:
        iterations += 1
        text = await _rewritten(text, most_tokens, count, shorten)
        tokens = await count(text)
    if tokens > most_tokens or not text:
        raise CompressionFailedError(
            f"The text for the next model still has {tokens} tokens; {most_tokens} are free. "
            "Shorten the request, or use models with a longer context.",
            details={"tokens": tokens, "limit": most_tokens, "iterations": iterations},
        )
    return Fitted(text, before, tokens, iterations)


def sentences(text: str) -> list[str]:
    """The sentences and lines of a text, each with the space behind it."""
    return _SENTENCE.findall(text)


def _blocks(text: str) -> list[str]:
    """The text in pieces: prose at even places, code at odd ones."""
    cuts = [0, *(at for match in CODE.finditer(text) for at in match.span()), len(text)]
    return [text[start:end] for start, end in pairwise(cuts)]


def _parts(text: str) -> list[str]:
    """The text in blocks of code and sentences."""
    blocks = enumerate(_blocks(text))
    return [part for at, block in blocks for part in ([block] if at % 2 else sentences(block))]


def _without(parts: list[str], dropped: set[int]) -> str:
    kept = [""]
    for index, part in enumerate(parts):
        if index not in dropped:
            kept.append(part)
        elif "\n" in part[len(part.rstrip()) :] and not kept[-1].endswith("\n"):
            kept.append("\n")  # the next part begins a line
    return "".join(kept).strip()


def _cleaned(text: str) -> str:
    """The text without reasoning, repeated sentences and runs of blank lines."""
    blocks = _blocks(shown(text))
    blocks[::2] = (re.sub(r"[ \t]*\n\s*\n", "\n\n", prose) for prose in blocks[::2])
    parts = _parts("".join(blocks))
    first: dict[str, int] = {}
    for index, part in enumerate(parts):
        key = " ".join(part.casefold().split()).lstrip("-*• ")
        # Short ones, such as "Yes." and the rules of tables, may occur again.
        first.setdefault(key if len(key) >= 12 and not CODE.match(part) else str(index), index)
    return _without(parts, set(range(len(parts))) - set(first.values()))


async def _extracted(
    text: str, tokens: int, goal: int, count: Count, least: float
) -> tuple[str, int]:
    """The text without its lightest sentences, and its tokens.

    The heaviest sentence and the share ``least`` of the text stay. Characters estimate tokens, so
    that few counts suffice.
    """
    parts = _parts(text)
    prose = [index for index, part in enumerate(parts) if part.strip() and not CODE.match(part)]
    weights = {index: _weight(parts[index]) + (index in (prose[0], prose[-1])) for index in prose}
    left = sorted(prose, key=lambda index: weights[index])[:-1]
    dropped: set[int] = set()
    size, smallest = len(text), len(text) * least
    goal = max(goal, int(tokens * least))
    while tokens > goal:
        most, before = size * goal / tokens, len(dropped)
        for index in left:
            length = len(parts[index])
            if index not in dropped and size > most and size - length >= smallest:
                dropped.add(index)
                size -= length
        if len(dropped) == before:
            break
        text = _without(parts, dropped)
        tokens = await count(text)
    return text, tokens


def _weight(sentence: str) -> int:
    patterns = ((_CONSTRAINT, 3), (_NUMBER, 2), (_NAME, 1))
    return sum(points for pattern, points in patterns if pattern.search(sentence))


async def _rewritten(text: str, most_tokens: int, count: Count, shorten: Shorten) -> str:
    """The text with its prose rewritten once; code, and prose with a bad result, stay."""
    blocks = _blocks(text)
    sizes = [await count(block) for block in blocks]
    ratio = (most_tokens - sum(sizes[1::2])) / max(sum(sizes[::2]), 1) * _MARGIN
    for at in range(0, len(blocks), 2):
        if blocks[at].strip() and ratio > 0:
            target = max(1, int(sizes[at] * ratio))
            result = shown(await shorten(blocks[at].strip(), target))
            listed = re.sub(r"^\s*\d+[.)]\s", "", result, flags=re.M)
            if _numbers(listed) <= _numbers(blocks[at]) and 0 < await count(result) < sizes[at]:
                blocks[at] = f"{result}\n"
    return "".join(blocks).strip()


def _numbers(text: str) -> set[str]:
    return {number.replace(",", "") for number in _NUMBER.findall(text)}
