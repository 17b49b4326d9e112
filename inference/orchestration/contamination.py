"""Signs that a model's output would mislead the next model."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from caching.questions.tokens import plain
from caching.questions.words import AUXILIARY, NUMERALS
from inference.orchestration.answers import shown
from inference.orchestration.compression import CODE, sentences
from inference.orchestration.handoff import HandoffState

Severity = Literal["warning", "high"]
_MARKERS = (
    *("I apologize", "I made an error", "That's incorrect", "hallucination"),
    "I don't have information about",
)
# Chinese and Japanese put no spaces between words: each letter counts.
_WORD = re.compile(r"[\u3040-\u30ff\u4e00-\u9fff]|[^\W_]+(?:[.,]\d+)*")
_NEGATIONS = {"not", "no", "never", "neither", "nor", "without"}
_UNSAID = AUXILIARY | _NEGATIONS | set(re.findall(r"\w+", """
    a an the of to for in on at by with from and or we you i it this that these our your please
    also so then therefore thus hence decision decided final conclusion"""))  # fmt: skip
_CONDITION = re.compile(r"\b(?:if|when|while|unless|until|except|whether|although)\b", re.I)
_CLAUSES = re.compile(r"[,;()]|\b(?:because|since|but)\b", re.I)
_INTERJECTION = re.compile(r"^\W*(?:no|yes|okay|ok|right)\s*[,.!:;]", re.I)
_Facts = tuple[list[str], bool, set[str]]  # words, whether negative, numbers


@dataclass(frozen=True)
class Issue:
    """A sign of a bad output; ``detail`` is a sentence about it."""

    type: str
    severity: Severity
    detail: str


def issues_of(output: str, state: HandoffState, *, user_text: str) -> list[Issue]:
    """The signs in an output; code and the user's own words count for nothing.

    Contradictions of decisions are found in English, between clauses with the same words.
    """
    text = shown(output)
    if not text.strip():
        return [Issue("empty_output", "high", "The output is empty.")]
    prose = plain(CODE.sub("\n", text))
    spoken, asked = prose.casefold(), plain(user_text).casefold()
    issues = [
        Issue("error_marker_detected", "warning", f'The output says "{marker}".')
        for marker in _MARKERS
        if marker.casefold() in spoken and marker.casefold() not in asked
    ]
    words = _WORD.findall(spoken)
    runs = list(zip(words, words[1:], words[2:], words[3:], strict=False))
    if len(words) >= 40 and len(set(runs)) < len(runs) / 2:  # shorter texts may repeat themselves
        issues.append(Issue("degenerate_output", "high", "Most of the output repeats itself."))
    clauses = [_facts(clause) for clause in _clauses(prose)] if state.decisions_made else []
    for decision in state.decisions_made:
        facts = _facts(plain(decision))
        if any(_contradict(facts, clause) for clause in clauses):
            detail = f"The output contradicts the decision: {decision}"
            issues.append(Issue("contradiction_detected", "high", detail))
    if len(state.active_errors) > state.current_step:
        detail = f"{len(state.active_errors)} errors are open at step {state.current_step}."
        issues.append(Issue("error_accumulation", "high", detail))
    return issues


def worst(issues: Iterable[Issue]) -> Severity | Literal[""]:
    """The highest severity; "" without issues."""
    severities = {issue.severity for issue in issues}
    return "high" if "high" in severities else "warning" if severities else ""


def _clauses(prose: str) -> Iterable[str]:
    """Each statement as a whole, and in clauses unless it holds under a condition."""
    for sentence in sentences(prose):
        text = _INTERJECTION.sub("", sentence)
        if not text.rstrip().endswith("?"):
            yield text
            if not _CONDITION.search(text):
                yield from _CLAUSES.split(text)


def _facts(text: str) -> _Facts:
    text = re.sub(r"\b(?:ca|wo|sha)n't\b|n't\b|\bcannot\b", " not", text.casefold())
    # "Step 2" is a name.
    text = re.sub(r"\b(step|stage|round|phase|part|section)\s+(?=\d)", r"\1", text)
    words = [word.replace(",", "") for word in _WORD.findall(text)]
    numbers = {word for word in words if word[0].isdigit() or word in NUMERALS}
    content = [word for word in words if word not in _UNSAID | numbers]
    return content, not _NEGATIONS.isdisjoint(words), numbers


def _contradict(a: _Facts, b: _Facts) -> bool:
    """Tell whether two clauses have the same words, but another negation or other numbers."""
    (words, is_negative, numbers), (other_words, other_is_negative, other_numbers) = a, b
    if not words or words != other_words:
        return False
    both = numbers and other_numbers
    if is_negative != other_is_negative:
        return numbers == other_numbers or not both  # "not version 12" agrees with "version 16"
    # "Five" may be 5, so digits are compared with digits only.
    kinds = {number[0].isdigit() for number in numbers | other_numbers}
    return bool(both) and not is_negative and len(kinds) == 1 and numbers.isdisjoint(other_numbers)
