"""Lua sources beside this file; each runs atomically inside Redis."""

from functools import cache
from pathlib import Path


@cache
def script(name: str) -> str:
    """The text of ``<name>.lua``."""
    return (Path(__file__).parent / f"{name}.lua").read_text()
