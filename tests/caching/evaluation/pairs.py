"""Makes the labelled pairs of pairs.tsv by rules: ``python -m tests.caching.evaluation.pairs``.

The words are of this file, not of the guard's lists, so that the pairs can find gaps in those.
Traps that a reader found wrongly labelled are in rejected.tsv, as kind and questions, and left out.
"""

import random
import re
from collections.abc import Iterator
from pathlib import Path

from spellchecker import SpellChecker

from caching.evaluation.measure import PAIRS

HERE = Path(__file__).resolve().parent
SEED = 11
LINES = (HERE / "seeds.txt").read_text().splitlines()

LISTS = [line[1:].split() for line in LINES if line.startswith("@")]


def listed(text: str) -> list[str]:
    return text.split("|")


FILLERS = listed(
    "Hi, {}|Hello there, {}|Hey! {}|um {}|so {}|ok so {}|Quick question: {}|Just wondering, {}"
    "|Sorry to bother you, but {}|{} Thanks!|{} Many thanks in advance|{} please|{} pls"
    "|{} Thank you!|Good morning, {}|hi {} cheers|Excuse me, {}|By the way, {}|hey team, {} thx"
)
SPELLING = dict(
    pair.split()
    for pair in listed(
        "colour color|favourite favorite|neighbour neighbor|behaviour behavior|grey gray"
        "|licence license|programme program|cheque check|cancelled canceled|litres liters"
        "|metres meters|organise organize|analyse analyze|kilometres kilometers|centre center"
        "|theatre theater|travelling traveling|labour labor|flavour flavor|catalogue catalog"
        "|instalments installments|jewellery jewelry|mould mold|honour honor|recognise recognize"
    )
)
CONTRACTIONS = (("What is ", "What's "), ("What is ", "whats "), ("Who is ", "Who's "))
NOT = (("did not", "didn't"), ("do not", "dont"), ("can not", "can't"), ("is not", "isnt"))
FRAMES = ("How can I ", "How to ", "What is the best way to ", "What's the right way to ")
KEYS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
AUXILIARY = set(listed("is|are|was|do|does|did|can|should"))
MARK = re.compile(r"\[(?:(\w+):)?([^\]]*)\]")


def plain(seed: str) -> str:
    """The question of a seed, without marks."""
    seed = MARK.sub(lambda mark: mark[2].split("|")[0], seed.replace("~ ", ""))
    return re.sub(r"[<>{}]", "", seed)


def others(kind: str, word: str) -> list[str]:
    """The other words of the lists that hold a word."""
    found = {w for name, *words in LISTS if name == kind and word in words for w in words}
    if not found:
        raise ValueError(f"No list of {kind} has {word}.")
    return sorted(found - {word})


def swapped(seed: str, mark: re.Match[str], text: str) -> str:
    return plain(seed[: mark.start()] + text + seed[mark.end() :])


def traps(seed: str, scopes: list[str], rng: random.Random) -> Iterator[tuple[str, str]]:
    roles: dict[str, str] = {}
    for mark in MARK.finditer(seed):
        kind, word = mark[1], mark[2]
        if kind == "n":
            digits = sorted({str(int(word) + 1), word + "0", word[::-1].lstrip("0")} - {word})
            yield from (("number", swapped(seed, mark, n)) for n in digits)
        elif kind in ("1", "2"):
            roles[kind] = word
        elif kind:
            names = others(kind, word)
            label = kind if kind in ("unit", "date") else "name"
            for name in rng.sample(names, min(4, len(names))):
                yield label, swapped(seed, mark, name)
        else:
            for word in mark[2].split("|")[1:]:
                yield "opposite", swapped(seed, mark, word)
    if roles:
        yield (
            "roles",
            plain(MARK.sub(lambda m: roles.get({"1": "2", "2": "1"}.get(m[1], ""), m[0]), seed)),
        )
    if "~" in seed:
        yield "negation", plain(seed.replace("~", "not"))
        yield "negation", plain(seed.replace("~", "never"))
    if "<" in seed:
        yield "scope", plain(re.sub(r" <.*?>", "", seed))
    question = plain(seed)
    for scope in sorted(rng.sample(scopes, min(3, len(scopes)))):
        yield "scope", f"{question[:-1]} {scope}?"
    first, second = question.split()[:2]
    if first in ("What", "Why", "When", "Where", "Who", "How") and second in AUXILIARY:
        for word in rng.sample(sorted({"Why", "When", "Where", "Who"} - {first}), 2):
            yield "question word", question.replace(first, word, 1)
        if first not in ("What", "Who"):
            yield "question word", second.capitalize() + question.split(second, 1)[1]
    elif first.lower() in AUXILIARY:
        for word in ("Why", "When"):
            yield "question word", f"{word} {first.lower()} {question.split(maxsplit=1)[1]}"


def mistyped(text: str, rng: random.Random, known: SpellChecker) -> str:
    """The text with one slip in one of its long words."""
    places = [m for m in re.finditer(r"\b[a-z]{5,}\b", text) if m[0] in known.word_frequency]
    if not places:
        return text
    place = rng.choice(places)
    word, at = place[0], rng.randrange(1, len(place[0]) - 1)
    row = next(row for row in KEYS if word[at] in row)
    near = row[abs(row.index(word[at]) - 1)]
    wrong = rng.choice(
        (
            word[:at] + word[at + 1 :],
            word[:at] + word[at] + word[at:],
            word[:at] + word[at + 1] + word[at] + word[at + 2 :],
            word[:at] + near + word[at + 1 :],
        )
    )
    # A slip that is a word of its own asks another question.
    if wrong == word or wrong in known.word_frequency:
        return mistyped(text, rng, known)
    return text[: place.start()] + wrong + text[place.end() :]


def repeats(seed: str, rng: random.Random, known: SpellChecker) -> Iterator[tuple[str, str]]:
    question = plain(seed)
    bare = question.rstrip("?").lower()
    for filler in rng.sample(FILLERS, 2):
        text = question[0].lower() + question[1:] if filler[0] != "{" else question
        yield "filler", filler.format(text)
    yield "case and marks", rng.choice((question.lower(), bare, question.upper()))
    yield (
        "case and marks",
        rng.choice((question + "?", bare + " ?", f"  {question}!!", bare + "...")),
    )
    yield "typo", mistyped(question, rng, known)
    yield "typo", mistyped(bare, rng, known)
    yield "typo", mistyped(mistyped(question, rng, known), rng, known)
    for british, american in SPELLING.items():
        if re.search(rf"\b{british}s?\b", question):
            yield "spelling", re.sub(rf"\b{british}", american, question)
    for full, short in CONTRACTIONS + NOT:
        if full in question:
            yield "contraction", question.replace(full, short)
    if match := re.match("How (do|can) I ", question):
        for frame in FRAMES:
            if frame[:7] != question[:7]:
                yield "frame", frame + question[match.end() :]
    if seed.endswith("}?"):
        phrase = plain(seed[seed.index("{") + 1 : -2])
        rest = plain(seed[: seed.index("{")]).rstrip()
        yield "fronted phrase", f"{phrase[0].upper()}{phrase[1:]}, {rest[0].lower()}{rest[1:]}?"


def pairs() -> list[tuple[str, str, str, str]]:
    """Label, kind and two questions of each pair, sorted."""
    rng, known = random.Random(SEED), SpellChecker()
    found: set[tuple[str, str, str, str]] = set()
    scopes: list[str] = []
    rejected = set((HERE / "rejected.tsv").read_text().splitlines())
    for line in LINES:
        if line.startswith("="):
            scopes = listed(line)[1:]
        elif line[0] not in "#@":
            seed = line.removeprefix("! ")
            question = plain(seed)
            for kind, other in traps(seed, scopes if seed == line else [], rng):
                retyped = rng.choice((other, other, other.rstrip("?").lower(), f"hi, {other}"))
                if f"{kind}\t{question}\t{other}" not in rejected:
                    found.add(("trap", kind, question, retyped))
            for kind, other in repeats(seed, rng, known):
                if other != question:
                    found.add(("hit", kind, question, other))
    return sorted(found)


if __name__ == "__main__":
    PAIRS.write_text("".join("\t".join(pair) + "\n" for pair in pairs()))
