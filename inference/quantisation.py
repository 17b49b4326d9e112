"""Quantise a version into a new file and a new version.

`inference.engine.llama.quantize` does the work in its own process.
"""

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final, cast

from models_registry.catalogue.additions import derive_version, register_derived
from models_registry.errors import RegistryError
from models_registry.gguf.reader import read_header
from models_registry.models import ModelVersion
from models_registry.rules.names import path_below
from models_registry.sources import checksum, ignore_progress
from models_registry.sources.storage import (
    exclusive,
    hash_file,
    require_free_space,
    sync_to_disk,
)

# llama.cpp's types that need no importance matrix, from the smallest to the most exact.
QUANTISATIONS: Final = (
    *("Q2_K", "Q3_K_S", "Q3_K_M", "Q3_K_L", "IQ3_S", "IQ3_M", "IQ4_XS", "IQ4_NL"),
    *("Q4_0", "Q4_K_S", "Q4_K_M", "Q4_1", "Q5_0", "Q5_K_S", "Q5_K_M", "Q5_1"),
    *("Q6_K", "Q8_0", "F16", "BF16", "F32"),
)
_UNQUANTISED: Final = {"F16", "BF16", "F32"}
_CHECKOUT: Final = Path(__file__).resolve().parents[1]

TensorCallback = Callable[[int, int], None]


class QuantisationError(Exception):
    """The file could not be quantised; the message says why."""


def quality_warning(source: ModelVersion) -> str:
    """The warning for a source that is quantised already; "" for any other."""
    if source.quantisation in _UNQUANTISED:
        return ""
    return (
        f"{source.key} is quantised already ({source.quantisation}). Quantising it again loses "
        "more quality; an F16 file gives better results."
    )


def quantise(
    source: ModelVersion,
    quantisation: str,
    *,
    models_dir: Path,
    threads: int,
    label: str = "",
    on_tensor: TensorCallback,
) -> ModelVersion:
    """Register a version with ``source``'s file in another quantisation, and return it.

    ``label`` is by default the quantisation in lower case. ``on_tensor(done, total)`` is called
    after each tensor. Any failure, also one of ``on_tensor``, leaves neither a file nor a row.

    Raises:
        RegistryError: the source's file is not here, or label or file name are taken.
        QuantisationError: the type is unknown, or llama.cpp failed.
        DiskFullError: there is too little space.
        OSError: the models directory cannot be written.
    """
    wanted = quantisation.upper()
    if wanted not in QUANTISATIONS:
        raise QuantisationError(
            f"{quantisation!r} is not a quantisation. Choose one of {', '.join(QUANTISATIONS)}."
        )
    path = _source_file(source, models_dir)
    label = label or wanted.lower()
    version = derive_version(source, label)
    version.file_name = _file_name(source, wanted, label)
    target = path_below(models_dir, version.file_name)
    with exclusive(target.with_name(f".{target.name}.lock"), ignore_progress):
        if target.exists():
            raise RegistryError(f"{target} exists already. Remove it, or choose another label.")
        sha256 = _write(path, target, wanted, threads, on_tensor)
        _register(version, target, sha256)
    return version


def _source_file(source: ModelVersion, models_dir: Path) -> Path:
    path = path_below(models_dir, source.file_name)
    if source.file_state != ModelVersion.FileState.READY or not path.is_file():
        raise RegistryError(
            f"The file of {source.key} is not here. Download it first: "
            f"python manage.py fetch_model {source.key}"
        )
    return path


def _file_name(source: ModelVersion, quantisation: str, label: str) -> str:
    """The source's name, its quantisation replaced by the new one or by a custom label."""
    old = Path(source.file_name)
    stem = re.sub(rf"[.-]{re.escape(source.quantisation)}$", "", old.stem, flags=re.IGNORECASE)
    mark = quantisation if label == quantisation.lower() else label
    return str(old.with_name(f"{stem}.{mark}.gguf"))


def _write(
    source: Path, target: Path, quantisation: str, threads: int, on_tensor: TensorCallback
) -> str:
    """Write the quantised file beside ``target``, check it, rename it; returns its sha256."""
    header = read_header(source)
    part = target.with_name(target.name + ".part")
    try:
        with _child(source, part, quantisation, threads) as lines:
            for line in lines:
                match line.split():
                    case ["size", size_bytes]:
                        header_bytes = header.file_bytes - header.tensor_bytes
                        needed_bytes = int(size_bytes) + header_bytes
                        require_free_space(part.parent, needed_bytes, target.name)
                    case ["tensor", done, total]:
                        on_tensor(int(done), int(total))
        read_header(part)
        sha256 = hash_file(part, ignore_progress)
        sync_to_disk(part)
        os.replace(part, target)
    finally:
        part.unlink(missing_ok=True)
    sync_to_disk(target.parent)
    return sha256


@contextmanager
def _child(source: Path, target: Path, quantisation: str, threads: int) -> Iterator[IO[str]]:
    """The output lines of the quantising process, which ends with the block.

    Raises:
        QuantisationError: it failed.
    """
    command = [
        *(sys.executable, "-m", "inference.engine.llama.quantize"),
        *(str(source), str(target), quantisation, str(threads)),
    ]
    with (
        tempfile.TemporaryFile("w+", errors="replace") as errors,
        subprocess.Popen(
            command, cwd=_CHECKOUT, stdout=subprocess.PIPE, stderr=errors, text=True
        ) as process,
    ):
        try:
            yield cast("IO[str]", process.stdout)
            status = process.wait()
        finally:
            process.kill()
        if status < 0:
            raise QuantisationError(
                f"The quantising process was ended by signal {-status}, most likely because memory "
                "was short."
            )
        if status:
            errors.seek(0)
            raise QuantisationError(errors.read().strip()[-500:])


def _register(version: ModelVersion, path: Path, sha256: str) -> None:
    try:
        checksum.write_note(path, sha256)
        register_derived(version, path, sha256)
    except BaseException:
        path.unlink()
        checksum.note_path(path).unlink(missing_ok=True)
        raise
