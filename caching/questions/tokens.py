"""The words of a question, without greetings, and with one spelling for each word."""

import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache

from .words import CAPITALS, PATTERNS, SPELLINGS

HESITATIONS = frozenset(("um", "uh", "uhm", "umm", "erm", "hmm"))
_OPENER = (
    r"(?:how|hows|what|whats|where|wheres|who|when|why|which|can|cant|could|is|are|do|does|did|"
    r"will|would|should|has|have|my|i|im|ive|so|um|uh|uhm|erm|er|ok|okay|hi|hello|hey|please|"
    r"just|sorry|quick)\b"
)
_GREETING = (
    r"(?:hi|hello|hey|hiya)(?:\s+(?:there|all|team|everyone|folks|guys))?"
    r"|good\s+(?:morning|afternoon|evening)|ok|okay|so|um|uh|uhm|umm|erm|er|yeah|please|pls|plz"
    r"|sorry|sorry\s+to\s+bother\s+you|excuse\s+me|quick\s+(?:one|question)|silly\s+question"
    r"|just\s+wondering|(?:i\s+was|i\s+am|i'?m)\s+(?:just\s+)?wondering|by\s+the\s+way|btw|but"
    r"|(?:can|could)\s+(?:you|anyone|someone)\s+(?:please\s+)?tell\s+me"
    r"|does\s+anyone\s+know|tell\s+me|any\s+idea"
    r"|(?:i\s+want|i\s+need|i\s+would\s+like|i'd\s+like|id\s+like)\s+to\s+know"
)
_GREETINGS = [
    # "well" and "morning" begin questions of their own, so they need a mark behind them.
    re.compile(
        rf"^(?:{_GREETING}|well|right|morning|afternoon|evening|question)\s*[,.!:;-]+\s*", re.I
    ),
    re.compile(rf"^(?:{_GREETING})\s+(?={_OPENER})", re.I),
    re.compile(
        r"(?:[\s,.!?-]+(?:please|pls|plz|thx)|[,.!?-]\s*(?:cheers|(?:many\s+)?thanks|thank\s+you)"
        r"(?:\s+in\s+advance|\s+a\s+lot|\s+(?:so|very)\s+much)?)[\s.!?]*$",
        re.I,
    ),
]
# A question about a text or a word may be about its case, its marks or the greeting itself.
_ABOUT_TEXT = re.compile(
    r"""\b(?:say|says|said|saying|mean|means|meaning|translate|translation|translated|spell|spells
    |spelled|spelling|write|written|rewrite|rephrase|proofread|word|words|letters?|vowels?
    |consonants?|syllables?|characters?|string|sentences?|paragraph|phrase|pronounced?|greet
    |greeting|reply|respond|grammar|slang|polite|rhymes?|anagram|acronym|abbreviation|palindrome
    |stands\ for|stand\ for|uppercase|lowercase|capitali[sz]ed?|punctuation|commas?|hyphens?
    |apostrophes?|noun|verb|adjective|sang|sings?|song|titled?|called|named)\b
    |["`\n]|(?<!\w)'[^']+'(?!\w)|:\s""",
    re.IGNORECASE | re.VERBOSE,
)
_WORD = re.compile(r"[^\W\d_]+(?:['-][^\W\d_]+)*")
# One "!" may be a factorial: 5! is not 5.
_END_MARKS = re.compile(r"(?:\?[?!]*|!{2,}|[.,;:\"']+)+$|^[?!.]+$")
_MARKS = {"\u2019": "'", "\u2018": "'", "\u2013": "-", "\u2014": "-", "\u201c": '"', "\u201d": '"'}
_PLAIN_MARKS = str.maketrans(_MARKS | {"\u2026": ". "})
_CASE_MATTERS = re.compile(r"[/\\_=<>{}\[\]$*`~|^]|^[-.]|[a-zA-Z]\.[a-zA-Z]")
_IS = {"what", "who", "where", "when", "how", "why", "that", "there", "it", "he", "she", "here"}
_ENDINGS = {"'re": "are", "'ve": "have", "'ll": "will", "'m": "am", "'d": "'d"}


@dataclass(frozen=True, slots=True)
class Tokens:
    """A question as it is compared."""

    words: tuple[str, ...]
    exact: tuple[str, ...]  # numbers, symbols and code, which have no second spelling
    names: frozenset[str]  # words with a capital inside a sentence


def plain(text: str) -> str:
    """The text with one form of each accent, apostrophe, dash and quotation mark."""
    return unicodedata.normalize("NFC", text).translate(_PLAIN_MARKS).replace("...", ". ").strip()


def tokens_of(text: str) -> Tokens:
    """The words of a text; a text about a text keeps each character."""
    original, text = text.strip(), _without_greetings(plain(text))
    if _ABOUT_TEXT.search(text):
        return Tokens(tuple(text.split()), (original,), frozenset())
    chunks = text.split()
    shouted, titled = text.isupper(), _is_titled(chunks)
    words: list[str] = []
    exact: list[str] = []
    names: set[str] = set()
    starts = True
    for place, chunk in enumerate(chunks):
        core = chunk.strip("\"'(?!.,;:)")
        if _WORD.fullmatch(core):
            lower = core.lower()
            capital = core[0].isupper() and not (shouted or titled or starts)
            acronym = core.isupper() and len(core) > 1 and not shouted
            if capital:
                names.add(lower)
            if (lower in CAPITALS and (capital or acronym)) or (core == "A" and capital):
                words.append(core if core.isupper() else core.capitalize())
            elif core not in HESITATIONS:
                words.extend(_spelled(lower))
            # "No, cancel it" and "Stop, go on" say the contrary of the same words without the mark.
            if lower in ("no", "not", "stop", "never", "yes") and place + 1 < len(chunks):
                words.extend(mark for mark in chunk[-1] if mark in ",.;:!")
        elif core := _END_MARKS.sub("", chunk.strip("\"'")):
            core = re.sub(r"(?<=\d),(?=\d{3}\b)", "", core)
            core = core if _CASE_MATTERS.search(core) else core.lower()
            words.append(core)
            exact.append(core)
        starts = chunk[-1] in ".?!:"
    return Tokens(tuple(words), tuple(exact), frozenset(names))


def _without_greetings(text: str) -> str:
    if _ABOUT_TEXT.search(text.replace(":", " ")):
        return text
    before = ""
    while text != before:
        before = text
        for greeting in _GREETINGS:
            text = greeting.sub("", text, count=1)
    return text or before


def _is_titled(chunks: list[str]) -> bool:
    """Tell whether Nearly Every Word Has A Capital, so that capitals mark no names."""
    inside = [chunk for chunk in chunks[1:] if chunk[0].isalpha()]
    return len(inside) > 1 and sum(c[0].isupper() for c in inside) > 0.7 * len(inside)


@lru_cache(maxsize=20_000)
def _spelled(word: str) -> tuple[str, ...]:
    """The word in lower case, as one or more words in their usual spelling."""
    if word in SPELLINGS:
        return SPELLINGS[word]
    if "-" in word:
        return tuple(part for piece in word.split("-") for part in _spelled(piece))
    if word.endswith("n't"):
        stem = {"ca": "can", "wo": "will", "sha": "shall", "ai": "is"}.get(word[:-3], word[:-3])
        return (stem, "not")
    for ending, full in _ENDINGS.items():
        if word.endswith(ending):
            return (word.removesuffix(ending), full)
    if word.endswith("'s") and word[:-2] in _IS:
        return (word[:-2], "is")
    word = word.replace("'", "")
    for pattern, replacement in PATTERNS:
        word = pattern.sub(replacement, word)
    return (word,)
