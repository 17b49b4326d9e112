"""Typed reads of environment variables; an error names the variable and the bad value."""

import json
import os
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import TypeVar
from zoneinfo import ZoneInfo

from django.core.exceptions import ImproperlyConfigured

T = TypeVar("T", int, float)
_TRUE = {"1", "true", "yes", "on"}
_FALSE = {"0", "false", "no", "off", ""}
# One or two different letters in a long name; all names have the same prefix.
_SIMILARITY = 0.9


def read_dotenv(path: Path) -> None:
    """Put ``NAME=value`` lines of a file into the environment; a variable that is set stays."""
    if not path.is_file():
        return
    for number, line in enumerate(path.read_text().splitlines(), start=1):
        text = line.strip().removeprefix("export ")
        if not text or text.startswith("#"):
            continue
        name, equals, value = text.partition("=")
        if not equals or not name.strip():
            raise ImproperlyConfigured(f"{path}:{number}: expected NAME=value, found {line!r}")
        os.environ.setdefault(name.strip(), value.strip().strip("\"'"))


class Environment:
    """Reads one mapping; all reads raise ``ImproperlyConfigured`` for a bad value."""

    def __init__(self, values: Mapping[str, str]) -> None:
        self._values = values
        self._known: set[str] = set()

    def unread(self, prefix: str) -> dict[str, str]:
        """Map names with ``prefix`` that were not read to the most similar one that was, or ""."""
        names = sorted(name for name in self._values if name.startswith(prefix))
        known = sorted(self._known)
        return {
            name: next(iter(get_close_matches(name, known, 1, _SIMILARITY)), "")
            for name in names
            if name not in self._known
        }

    def text(self, name: str, default: str = "") -> str:
        return self._raw(name) or default

    def boolean(self, name: str, default: bool) -> bool:
        raw = self._raw(name)
        if raw is None:
            return default
        lowered = raw.strip().lower()
        if lowered in _TRUE:
            return True
        if lowered in _FALSE:
            return False
        raise ImproperlyConfigured(f"{name}={raw!r}: expected true or false")

    def integer(self, name: str, default: int, minimum: int, maximum: int) -> int:
        value = self._parsed(name, int, "a whole number", default)
        if not minimum <= value <= maximum:
            raise ImproperlyConfigured(f"{name}={value}: expected {minimum} to {maximum}")
        return value

    def number(self, name: str, default: float, minimum: float, maximum: float) -> float:
        value = self._parsed(name, float, "a number", default)
        if not minimum <= value <= maximum:
            raise ImproperlyConfigured(f"{name}={value}: expected {minimum:g} to {maximum:g}")
        return value

    def choice(self, name: str, default: str, allowed: tuple[str, ...]) -> str:
        value = self._raw(name) or default
        if value not in allowed:
            raise ImproperlyConfigured(f"{name}={value!r}: expected one of {', '.join(allowed)}")
        return value

    def time_zone(self, name: str, default: str) -> str:
        value = self.text(name, default)
        try:
            return ZoneInfo(value).key
        # A folder of zones, such as "Europe", gives an OSError.
        except (KeyError, ValueError, OSError):
            raise ImproperlyConfigured(
                f"{name}={value!r}: expected a time zone, such as Europe/Berlin"
            ) from None

    def words(self, name: str, default: str = "") -> list[str]:
        return [word.strip() for word in self.text(name, default).split(",") if word.strip()]

    def word_lists(self, name: str) -> dict[str, tuple[str, ...]]:
        """Read a JSON object of lists of strings; empty when it is unset or empty."""
        try:
            found = json.loads(self.text(name, "{}"))
        except ValueError as error:
            raise ImproperlyConfigured(f"{name}={self._raw(name)!r}: {error}") from None
        if not isinstance(found, dict) or not all(
            isinstance(value, list) and all(isinstance(word, str) for word in value)
            for value in found.values()
        ):
            raise ImproperlyConfigured(
                f"{name}={self._raw(name)!r}: expected a JSON object of lists, such as "
                '{"my-model": ["coder", "primary"]}'
            )
        return {key: tuple(words) for key, words in found.items()}

    def _parsed(self, name: str, parse: Callable[[str], T], kind: str, default: T) -> T:
        raw = self._raw(name)
        if not raw:
            return default
        try:
            return parse(raw)
        except ValueError:
            raise ImproperlyConfigured(f"{name}={raw!r}: expected {kind}") from None

    def _raw(self, name: str) -> str | None:
        self._known.add(name)
        return self._values.get(name)
