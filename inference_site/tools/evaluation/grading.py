"""Reads the answer out of a text, and compares it with the right one."""

import json
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

from inference.orchestration.answers import extracted, number, shown
from inference_site.tools.evaluation.records import Check
from inference_site.tools.evaluation.sandbox import code_of, passes


def value_of(text: str, check: Check) -> str | None:
    """The answer in a spelling that equal answers share; None where the text has none."""
    text = shown(text)
    match check.kind:
        case "number" | "yes_no" | "choice":
            return extracted(text, check.kind)
        case "label":
            return text.strip().casefold() or None
        case "order":
            # A text may repeat the unsorted words first.
            words = re.findall("|".join(rf"\b{re.escape(w)}\b" for w in check.gold), text.lower())
            return " ".join(words[-len(check.gold) :]) or None
        case "json":
            try:
                return _written(json.loads(text))
            except (ValueError, RecursionError):
                return None
        case "code":
            return code_of(text) or None


def is_right(text: str, check: Check) -> bool:
    """Tell whether a text answers correctly."""
    value = value_of(text, check)
    if check.kind == "code":
        return value is not None and passes(value, tuple(check.gold))
    gold = _written(check.gold) if check.kind == "json" else check.gold
    return value == (" ".join(gold) if check.kind == "order" else gold)


def majority(texts: Sequence[str], check: Check) -> str:
    """The text whose answer most texts share; of equally many, the earliest. "" without one."""
    values = [value_of(text, check) for text in texts]
    counts = Counter(value for value in values if value is not None)
    # ``most_common`` keeps the order of first use.
    return texts[values.index(counts.most_common(1)[0][0])] if counts else ""


def _written(value: Any) -> str:
    """Fields in one spelling: without case, outer blanks, and zeros after the point."""
    if isinstance(value, dict):
        return json.dumps({key: _written(value[key]) for key in sorted(value)})
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return number(str(value)) if is_number else str(value).strip().casefold()
