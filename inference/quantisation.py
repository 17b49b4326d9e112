"""Quantise a registered version: a new file and a new version, the old ones stay as they are.

The work is done by `inference.engine.llama.quantize` in a process of its own.
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

from models_registry.catalogue.derivation import derive_version, register_derived
from models_registry.errors import RegistryError
from models_registry.gguf.reader import read_header
from models_registry.models import ModelVersion
from models_registry.rules.names import path_below
from models_registry.sources import checksum
from models_registry.sources.progress import ignore_progress
from models_registry.sources.storage import (
    exclusive,
    hash_file,
    require_free_space,
    sync_to_disk,
)

# Those of llama.cpp that need no importance matrix, from the smallest to the exact.
QUANTISATIONS: Final = (
    *("Q2_K", "Q3_K_S", "Q3_K_M", "Q3_K_L", "IQ3_S", "IQ3_M", "IQ4_XS", "IQ4_NL"),
    *("Q4_0", "Q4_K_S", "Q4_K_M", "Q4_1", "Q5_0", "Q5_K_S", "Q5_K_M", "Q5_1"),
    *("Q6_K", "Q8_0", "F16", "BF16", "F32"),
)
_UNQUANTISED: Final = {"F16", "BF16", "F32"}
_CHECKOUT: Final = Path(__file__).resolve().parents[1]

# Called as on_tensor(done, total) after each tensor.
TensorCallback = Callable[[int, int], None]


class QuantisationError(Exception):
    """The file could not be quantised; the message says why."""


def quality_warning(source: ModelVersion) -> str:
    """What people should know before they quantise ``source``; "" when there is nothing."""
    if source.quantisation in _UNQUANTISED:
        return ""
    return (
        f"{source.key} is quantised already ({source.quantisation}): what that lost stays lost, "
        "and this loses a little more. Where quality counts, start from an F16 file."
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
    """Make a version of ``source``'s model whose file is quantised otherwise.

    The file is written beside its place, read back, and moved there by rename. Whatever ends this
    early, an exception of ``on_tensor`` included, leaves neither a file nor a row.

    Args:
        source: whose file is read; it is not changed.
        quantisation: one of ``QUANTISATIONS``, in any case.
        models_dir: where the files are.
        threads: CPU threads to use.
        label: of the new version; by default the quantisation in lower case.
        on_tensor: is told how far it is.

    Returns:
        The new version, registered and its file ready.

    Raises:
        RegistryError: the source's file is not here, or label or file name are taken.
        QuantisationError: the type is unknown, or llama.cpp failed.
        DiskFullError: there is too little space.
        OSError: the models directory cannot be written.
    """
    wanted = quantisation.upper()
    if wanted not in QUANTISATIONS:
        raise QuantisationError(
            f"{quantisation!r} is no quantisation. Choose one of {', '.join(QUANTISATIONS)}."
        )
    path = path_below(models_dir, source.file_name)
    if source.file_state != ModelVersion.FileState.READY or not path.is_file():
        raise RegistryError(
            f"The file of {source.key} is not here. Fetch it first: "
            f"python manage.py fetch_model {source.key}"
        )
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


def _file_name(source: ModelVersion, quantisation: str, label: str) -> str:
    """The source's name with the new quantisation, or a label of one's own, for the old one."""
    old = Path(source.file_name)
    stem = re.sub(rf"[.-]{re.escape(source.quantisation)}$", "", old.stem, flags=re.IGNORECASE)
    mark = quantisation if label == quantisation.lower() else label
    return str(old.with_name(f"{stem}.{mark}.gguf"))


def _write(
    source: Path, target: Path, quantisation: str, threads: int, on_tensor: TensorCallback
) -> str:
    """Put the quantised file at ``target``; returns its sha256 (hex)."""
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
    """The output of the process that quantises; it has ended well, or not at all, at the end.

    Raises:
        QuantisationError: it failed.
    """
    command = [
        *(sys.executable, "-m", "inference.engine.llama.quantize"),
        *(str(source), str(target), quantisation, str(threads)),
    ]
    with (
        tempfile.TemporaryFile("w+", errors="replace") as complaints,
        subprocess.Popen(
            command, cwd=_CHECKOUT, stdout=subprocess.PIPE, stderr=complaints, text=True
        ) as process,
    ):
        try:
            yield cast("IO[str]", process.stdout)
            status = process.wait()
        finally:
            process.kill()
        if status < 0:
            raise QuantisationError(
                f"The process that quantises was ended by signal {-status}. Most often there was "
                "too little memory."
            )
        if status:
            complaints.seek(0)
            raise QuantisationError(complaints.read().strip()[-500:])


def _register(version: ModelVersion, path: Path, sha256: str) -> None:
    """Enter the version; without its row, the file goes as well."""
    try:
        checksum.remember(path, sha256)
        register_derived(version, path, sha256)
    except BaseException:
        path.unlink()
        checksum.note_path(path).unlink(missing_ok=True)
        raise
