"""Fixtures that several of the registry's tests share."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from models_registry.fleet import live_figures as figures
from models_registry.fleet.live_figures import LiveFigures

Show = Callable[[LiveFigures], None]


@pytest.fixture
def show() -> Iterator[Show]:
    """Have figures of a test's own."""
    before = list(figures._sources)

    def show_(found: LiveFigures) -> None:
        figures.register_figures(lambda _: found)

    show_(LiveFigures())
    yield show_
    figures._sources[:] = before


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that pip takes wheels from, in place of any index."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder
