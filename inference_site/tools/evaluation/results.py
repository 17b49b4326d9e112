"""The file of results: the first line says what was asked, each other one holds an answer."""

from pathlib import Path

import msgspec

from inference_site.tools.evaluation.items import FileError


class Setup(msgspec.Struct, frozen=True, tag="setup"):
    """Conditions that must be equal for results to be compared, but for the day they began."""

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
    versions: list[str] = []
    error: str = ""


class Results:
    """All results so far, by arm and item. New ones are appended to the file, if there is one.

    Raises:
        FileError: the file is of another setup, or invalid.
    """

    def __init__(self, path: Path | None, setup: Setup) -> None:
        self._path, self.setup = path, setup
        self._of: dict[str, dict[str, Result]] = {}
        lines: list[Setup | Result] = []
        try:
            if path is not None and path.exists():
                lines = msgspec.json.Decoder(Setup | Result).decode_lines(path.read_bytes())
        except (OSError, msgspec.DecodeError) as error:
            raise FileError(f"{path}: {error}") from error
        if not lines:
            self._append(setup)
        for line in lines:
            if isinstance(line, Result):
                self.arm(line.arm)[line.item] = line
            elif msgspec.structs.replace(line, began=setup.began) != setup:
                raise FileError(f"{path} is of another model, version, seed or items: {line}.")
            else:
                self.setup = line

    def add(self, result: Result) -> None:
        """Keep a result."""
        self.arm(result.arm)[result.item] = result
        self._append(result)

    def arm(self, name: str) -> dict[str, Result]:
        """The results of an arm by item."""
        return self._of.setdefault(name, {})

    def has(self, arm: str, item: str, texts: int = 1) -> bool:
        """Tell whether a result with so many texts is there; errors do not count."""
        found = self.arm(arm).get(item)
        return found is not None and len(found.texts) >= texts

    def _append(self, line: Setup | Result) -> None:
        if self._path is not None:
            with self._path.open("ab") as file:
                file.write(msgspec.json.encode(line) + b"\n")
