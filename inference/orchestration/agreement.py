"""Agreement of several answers, measured and named by its method; the members asked count."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from caching.questions.canonical import canonical_text
from caching.questions.facts import MAX_WORDS
from caching.questions.tokens import plain
from caching.questions.words import SHARED, SPELLINGS
from inference.orchestration.answers import NUMERALS, AnswerKind, extracted, numbers_of, shown

Vector = npt.NDArray[np.float32]
Point = dict[str, Any]  # "text": a sentence, "by": the members that say it

THRESHOLD = 0.85  # of the cosine
MAX_SENTENCES = 12  # of an answer
_PREFIXES = ("un", "in", "im", "ir", "il", "non", "dis")
_LISTS = [SHARED[name] for name in ("negations", "units", "dates")]
_NAME = re.compile(r"(?<=[a-z0-9,] )[A-Z]\w+")
_LIST_MARK = re.compile(r"^[ \t]*(?:[-*#>]+|\d+[.)])[ \t]+", re.MULTILINE)


@dataclass(frozen=True)
class Agreement:
    """Groups of members whose answers are equal."""

    score: float | None  # the largest group ÷ asked; None for a ``reason``
    method: str  # "constrained", "extracted", "embedding", or "none": equal texts alone
    asked: int
    answered: int
    groups: tuple[tuple[int, ...], ...]  # the largest first; ties by the earliest member
    reason: str = ""

    @property
    def is_unanimous(self) -> bool:
        return self.asked > 1 and bool(self.groups) and len(self.groups[0]) == self.asked

    @property
    def leader(self) -> int | None:
        return self.groups[0][0] if self.groups else None

    def as_dict(self) -> dict[str, Any]:
        return asdict(self) | {"score": self.score and round(self.score, 2)}


def agree(
    answers: Sequence[str | None],
    kind: AnswerKind,
    *,
    vectors: Sequence[Vector | None] | None,
    is_independent: bool = True,
) -> Agreement:
    """Group the answers of all members asked; None, or nothing but thoughts, is a failed one."""
    said = {i: text for i, answer in enumerate(answers) if (text := shown(answer or "").strip())}
    if kind == "open":
        method = "none" if vectors is None else "embedding"
        of = [None] * len(answers) if vectors is None else vectors
        claims = {i: _Claim(text, of[i]) for i, text in said.items()}
        groups = _groups(list(said), lambda i, j: claims[i].agrees_with(claims[j]))
    else:
        method = "constrained" if kind == "json" else "extracted"
        # A grammar may give texts that are no JSON; equal ones are equal.
        spare = {i: ("text", text if kind == "json" else i) for i, text in said.items()}
        keys = {i: extracted(text, kind) or spare[i] for i, text in said.items()}
        groups = _groups(list(said), lambda i, j: keys[i] == keys[j])
    reason = "no_embedder" if method == "none" else ""
    reason = reason if is_independent else "not_independent"
    reason = reason if said else "no_answers"
    reason = reason if len(answers) > 1 else "one_member"
    score = None if reason else len(groups[0]) / len(answers)
    return Agreement(score, method, len(answers), len(said), groups, reason)


def points(
    answers: Sequence[str | None],
    vectors_of: Mapping[str, Vector] | None,
    min_agreement: float,
    asked: int,
) -> tuple[list[Point], list[Point], bool]:
    """Agreed and flagged points: sentences by their support; last, whether answers were cut.

    ``vectors_of`` has the vectors of the ``sentences``; without it only equal ones agree.
    """
    split = [sentences(answer or "") for answer in answers]
    all_said = [(i, text) for i, texts in enumerate(split) for text in texts[:MAX_SENTENCES]]
    claims = [_Claim(text, (vectors_of or {}).get(text)) for _, text in all_said]
    groups = _groups(range(len(claims)), lambda i, j: claims[i].agrees_with(claims[j]))
    found = [Point(text=all_said[g[0]][1], by=sorted({all_said[i][0] for i in g})) for g in groups]
    found.sort(key=lambda point: -len(point["by"]))
    agreed = [point for point in found if len(point["by"]) / asked >= min_agreement]
    return agreed, found[len(agreed) :], any(len(texts) > MAX_SENTENCES for texts in split)


def sentences(text: str) -> list[str]:
    """The sentences of an answer without the marks of lists."""
    parts = re.split(r"(?<=[.!?])\s+|\n+", _LIST_MARK.sub("", shown(text)))
    return [part.strip() for part in parts if re.search(r"\w", part)]


def _groups(items: Sequence[int], same: Callable[[int, int], bool]) -> tuple[tuple[int, ...], ...]:
    """Complete linkage, greedy in order: an item joins the first group whose members all agree."""
    groups: list[list[int]] = []
    for item in items:
        home = next((group for group in groups if all(same(item, other) for other in group)), None)
        if home is None:
            groups.append(home := [])
        home.append(item)
    return tuple(tuple(group) for group in sorted(groups, key=lambda group: -len(group)))


class _Claim:
    """A text and its facts. ``facts_of`` is for questions: it leaves out most short answers."""

    def __init__(self, text: str, vector: Vector | None) -> None:
        self.vector = vector
        spelled = (part.lstrip("\"'*").rstrip(".,;:?\"'*") for part in text.casefold().split())
        self.form = canonical_text(text) or " ".join(filter(None, spelled))
        words = re.findall(r"[^\W\d_]+", plain(text).lower().replace("n't", " not"))
        self.words = [part for word in words for part in SPELLINGS.get(word, (word,))]
        named = (NUMERALS.get(word, word) for word in self.words if word in SHARED["number words"])
        self.numbers = {*numbers_of(_LIST_MARK.sub("", text)), *named}
        self.facts = [sorted(word for word in self.words if word in listed) for listed in _LISTS]
        self.names = {name.lower() for name in _NAME.findall(text)}

    def agrees_with(self, other: "_Claim") -> bool:
        if self.form == other.form:
            return True
        if self.vector is None or other.vector is None or self._contradicts(other):
            return False
        return float(self.vector @ other.vector) >= THRESHOLD

    def _contradicts(self, other: "_Claim") -> bool:
        ours, theirs = set(self.words) - set(other.words), set(other.words) - set(self.words)
        differing = ours | theirs
        contrary = {prefix + word for prefix in _PREFIXES for word in differing}
        if self.numbers != other.numbers or {"yes", "no"} == {*self.words[:1], *other.words[:1]}:
            return True
        # A single other word is the word that matters: "hot", "cold".
        if len(ours) == len(theirs) == 1 or differing & contrary:
            return True
        # Long texts have so many of these words that no two are equal.
        is_short = max(len(self.words), len(other.words)) <= MAX_WORDS
        names = self.names | other.names
        return is_short and (self.facts != other.facts or bool(differing & names))
