"""Makes the labelled pairs of pairs.tsv by rules: ``python -m caching.evaluation.pairs``.

The words are of this file, not of the guard's lists, so that the pairs can find gaps in those.
Pairs that a reader found wrongly labelled are in rejected.tsv and left out.
"""

import random
import re
from collections.abc import Iterator
from pathlib import Path

from spellchecker import SpellChecker

HERE = Path(__file__).resolve().parent
SEED = 11

NAMES = {
    "city": "London Paris Rome Vienna Tokyo Dublin Lisbon Boston Chicago Oslo",
    "country": "Germany Italy Japan Norway Brazil Australia Austria Iran Iraq Niger Nigeria",
    "person": "Mozart Beethoven Newton Darwin Cleopatra Napoleon",
    "company": "Amazon Ikea Nike Zara Adidas",
    "product": "Docker Redis MongoDB Nginx Kafka Oracle Podman Postgres",
    "system": "Ubuntu Fedora Debian Windows macOS",
    "language": "Rust Python Java JavaScript Kotlin Perl Scala C C++ C#",
    "drug": "ibuprofen aspirin paracetamol prednisone prednisolone hydroxyzine hydralazine",
    "book": "Hamlet Ulysses Emma Dracula Faust",
}
UNITS = (
    "days weeks months hours minutes|mg g kg|kg pounds|kilograms pounds grams|cups spoons grams"
    "|litres gallons pints|Celsius Fahrenheit Kelvin|miles kilometres metres|bytes bits words"
    "|percent degrees|day week month|square metres,square feet,acres"
)
DATES = (
    "Mondays Tuesdays Saturdays Sundays|Friday Thursday Sunday|March May October June"
    "|winter summer spring|Christmas Easter|2014 2015 2041|1815 1851 1518|9am 9pm 6am"
    "|morning evening night"
)
SCOPES = {
    "everyday": "for a child|for my company|from abroad|by phone|for free|without an account",
    "health": "for a child|in old age|after an operation|during pregnancy|for athletes",
    "cooking": "at high altitude|for a large party|without an oven|for a baby",
    "household": "in a rented flat|with bare hands|in a caravan|without tools",
    "technical": "in production|on a Mac|with a script|without root rights|in an old version",
    "facts": "in the Middle Ages|on average|in theory|according to Aristotle|for beginners",
}
FILLERS = (
    "Hi, {}|Hello there, {}|Hey! {}|um {}|so {}|ok so {}|Quick question: {}|Just wondering, {}"
    "|Sorry to bother you, but {}|{} Thanks!|{} Many thanks in advance|{} please|{} pls|{} Thank you!"
    "|Good morning, {}|hi {} cheers|Excuse me, {}|By the way, {}|hey team, {} thx"
).split("|")
SPELLING = dict(
    pair.split()
    for pair in (
        "colour color|favourite favorite|neighbour neighbor|behaviour behavior|grey gray"
        "|licence license|programme program|cheque check|cancelled canceled|litres liters"
        "|metres meters|organise organize|analyse analyze|kilometres kilometers|centre center"
        "|theatre theater|travelling traveling|labour labor|flavour flavor|catalogue catalog"
        "|instalments installments|jewellery jewelry|mould mold|honour honor|recognise recognize"
    ).split("|")
)
CONTRACTIONS = (("What is ", "What's "), ("What is ", "whats "), ("Who is ", "Who's "))
NOT = (("did not", "didn't"), ("do not", "dont"), ("can not", "can't"), ("is not", "isnt"))
FRAMES = ("How can I ", "How to ", "What is the best way to ", "What's the right way to ")
KEYS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
AUXILIARY = "is are was do does did can should".split()
MARK = re.compile(r"\[(?:(\w+):)?([^\]]*)\]")


def plain(seed: str) -> str:
    """The question of a seed, without marks."""
    seed = MARK.sub(lambda mark: mark[2].split("|")[0], seed.replace("~ ", ""))
    return re.sub(r"[<>{}]", "", seed)


def others(lists: str, word: str) -> list[str]:
    found = []
    for listed in lists.split("|"):
        words = listed.split(",") if "," in listed else listed.split()
        if word in words:
            found += [other for other in words if other != word]
    return sorted(set(found))


def swapped(seed: str, mark: re.Match[str], text: str) -> str:
    return plain(seed[: mark.start()] + text + seed[mark.end() :])


def traps(seed: str, topic: str, rng: random.Random) -> Iterator[tuple[str, str]]:
    roles: dict[str, str] = {}
    for mark in MARK.finditer(seed):
        kind, word = mark[1], mark[2]
        if kind == "n":
            digits = sorted({str(int(word) + 1), word + "0", word[::-1].lstrip("0")} - {word})
            yield from (("number", swapped(seed, mark, n)) for n in digits)
        elif kind == "u":
            for unit in others(UNITS, word)[:3]:
                yield "unit", swapped(seed, mark, unit)
        elif kind == "d":
            for date in others(DATES, word)[:3]:
                yield "date", swapped(seed, mark, date)
        elif kind in ("1", "2"):
            roles[kind] = word
        elif kind:
            names = sorted(set(NAMES[kind].split()) - {word})
            yield from (("name", swapped(seed, mark, n)) for n in rng.sample(names, 4))
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
    for scope in sorted(rng.sample(SCOPES[topic].split("|"), 2)):
        yield "scope", f"{question[:-1]} {scope}?"
    first, second = question.split()[:2]
    if first in ("What", "Why", "When", "Where", "Who", "How") and second in AUXILIARY:
        for word in rng.sample(sorted({"Why", "When", "Where", "Who"} - {first}), 2):
            yield "question word", question.replace(first, word, 1)
        rest = question.split(maxsplit=1)[1]
        yield "question word", rest[0].upper() + rest[1:]
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
    rng, known, found, topic = random.Random(SEED), SpellChecker(), set(), ""  # noqa: S311
    for line in (HERE / "seeds.txt").read_text().splitlines():
        if line.startswith("="):
            topic = line[2:]
        elif not line.startswith("#"):
            question = plain(line)
            for kind, other in traps(line, topic, rng):
                retyped = rng.choice((other, other, other.rstrip("?").lower(), f"hi, {other}"))
                found.add(("trap", kind, question, retyped))
            for kind, other in repeats(line, rng, known):
                if other != question:
                    found.add(("hit", kind, question, other))
    return sorted(found)


def main() -> None:
    rejected = set((HERE / "rejected.tsv").read_text().splitlines())
    lines = ["\t".join(pair) for pair in pairs()]
    kept = [line for line in lines if line not in rejected]
    (HERE / "pairs.tsv").write_text("\n".join(kept) + "\n")
    print(f"{len(kept)} pairs, {len(lines) - len(kept)} rejected")


if __name__ == "__main__":
    main()
