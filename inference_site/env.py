"""Typed reads of environment variables that fail loudly, naming the variable and the bad value."""

import os
from collections.abc import Mapping
from pathlib import Path

from django.core.exceptions import ImproperlyConfigured

_TRUE = {"1", "true", "yes", "on"}
_FALSE = {"0", "false", "no", "off", ""}


def read_dotenv(path: Path) -> None:
    """Put ``NAME=value`` lines of ``path`` into the environment; what is set already wins.

    Args:
        path: the file; nothing happens when there is none.

    Raises:
        ImproperlyConfigured: a line is neither blank, a comment nor an assignment.
    """
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
    """Reads of one environment mapping; every method names the variable it could not read."""

    def __init__(self, values: Mapping[str, str]) -> None:
        self._values = values

    def text(self, name: str, default: str = "") -> str:
        """The value of ``name``, or ``default`` when it is unset or empty."""
        return self._values.get(name) or default

    def boolean(self, name: str, default: bool) -> bool:
        """True for 1/true/yes/on, False for 0/false/no/off."""
        raw = self._values.get(name)
        if raw is None:
            return default
        lowered = raw.strip().lower()
        if lowered in _TRUE:
            return True
        if lowered in _FALSE:
            return False
        raise ImproperlyConfigured(f"{name}={raw!r}: expected true or false")

    def integer(self, name: str, default: int, minimum: int, maximum: int) -> int:
        """A whole number within [minimum, maximum]."""
        raw = self._values.get(name)
        if not raw:
            return default
        try:
            value = int(raw)
        except ValueError:
            raise ImproperlyConfigured(f"{name}={raw!r}: expected a whole number") from None
        if not minimum <= value <= maximum:
            raise ImproperlyConfigured(f"{name}={raw}: expected {minimum} to {maximum}")
        return value

    def number(self, name: str, default: float, minimum: float, maximum: float) -> float:
        """A number within [minimum, maximum]."""
        raw = self._values.get(name)
        if not raw:
            return default
        try:
            value = float(raw)
        except ValueError:
            raise ImproperlyConfigured(f"{name}={raw!r}: expected a number") from None
        if not minimum <= value <= maximum:
            raise ImproperlyConfigured(f"{name}={raw}: expected {minimum:g} to {maximum:g}")
        return value

    def choice(self, name: str, default: str, allowed: tuple[str, ...]) -> str:
        """One of ``allowed``."""
        value = self._values.get(name) or default
        if value not in allowed:
            raise ImproperlyConfigured(f"{name}={value!r}: expected one of {', '.join(allowed)}")
        return value

    def words(self, name: str, default: str = "") -> list[str]:
        """A comma-separated list, blanks dropped."""
        return [word.strip() for word in self.text(name, default).split(",") if word.strip()]
