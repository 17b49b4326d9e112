"""The file of results: one JSON line says what was asked, one holds each answer."""

from collections.abc import Mapping
from pathlib import Path

import msgspec

from inference_site.tools.evaluation.items import ItemsError


class Setup(msgspec.Struct, frozen=True, tag="setup"):
    """All that must be equal for results to be compared."""

    model: str
    version: str
    seed: int
    items: str
    began: str = ""


class Result(msgspec.Struct, frozen=True, tag="result"):
    """The answer of an arm to an item, or the error of the last try; several texts are a panel."""

    arm: str
    item: str
    texts: list[str] = []
    tokens: int = 0
    seconds: float = 0.0
    mode: str = ""
    versions: list[str] = []
    is_partial: bool = False
    error: str = ""


class Results:
    """All results so far, by arm and item. New ones are appended to the file.

    Args:
        path: of the file; it need not exist. None keeps the results in memory only.
        setup: of this run.

    Raises:
        ItemsError: the file is of another setup, or invalid.
    """

    def __init__(self, path: Path | None, setup: Setup) -> None:
        self._path, self.setup = path, setup
        self.of: dict[str, dict[str, Result]] = {}
        lines: list[Setup | Result] = []
        try:
            if path is not None and path.exists() and path.stat().st_size:
                lines = msgspec.json.Decoder(Setup | Result).decode_lines(path.read_bytes())
        except (OSError, msgspec.DecodeError) as error:
            raise ItemsError(f"{path}: {error}") from error
        if not lines:
            self._append(setup)
        elif not isinstance(lines[0], Setup) or _bare(lines[0]) != _bare(setup):
            raise ItemsError(f"{path} is of another model, version, seed or items: {lines[0]}.")
        else:
            self.setup = lines[0]
        for line in lines:
            if isinstance(line, Result):
                self.of.setdefault(line.arm, {})[line.item] = line

    def add(self, result: Result) -> None:
        """Keep a result."""
        self.of.setdefault(result.arm, {})[result.item] = result
        self._append(result)

    def arm(self, name: str) -> Mapping[str, Result]:
        """The results of an arm by item."""
        return self.of.get(name, {})

    def has(self, arm: str, item: str, texts: int = 1) -> bool:
        """Tell whether a result with so many texts is there; errors do not count."""
        found = self.arm(arm).get(item)
        return found is not None and not found.error and len(found.texts) >= texts

    def _append(self, line: Setup | Result) -> None:
        if self._path is not None:
            with self._path.open("ab") as file:
                file.write(msgspec.json.encode(line) + b"\n")


def _bare(setup: Setup) -> Setup:
    return msgspec.structs.replace(setup, began="")
