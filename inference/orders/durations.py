"""Durations as Ollama's clients write them: ``300``, ``"5m"``, ``"1h30m"``, ``-1``."""

import math
import re

from inference.errors import InvalidRequestError

MAX_SECONDS = 365 * 86_400.0
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_PART = re.compile(r"(\d{1,12}(?:\.\d{1,6})?)(ms|s|m|h)")


def seconds_of(value: float | str, param: str) -> float:
    """A duration in seconds; -1, which means for ever, if it is negative."""
    seconds = _parsed(value) if isinstance(value, str) else float(value)
    if not math.isfinite(seconds) or seconds > MAX_SECONDS:
        raise InvalidRequestError(
            f"{value!r} is not a duration of at most a year. Send seconds, a text such as '5m' or "
            "'1h30m', 0 for none, or -1 for ever.",
            param=param,
        )
    return -1.0 if seconds < 0 else seconds


def _parsed(text: str) -> float:
    """Seconds; NaN if ``text`` is not a duration."""
    if re.fullmatch(r"-?\d{1,12}(\.\d{1,6})?", text):
        return float(text)
    body = text.removeprefix("-")
    parts = _PART.findall(body)
    if not parts or "".join(number + unit for number, unit in parts) != body:
        return math.nan
    total = sum(float(number) * _UNITS[unit] for number, unit in parts)
    return -1.0 if text.startswith("-") else total
