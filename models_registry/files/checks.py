"""Check before loading that the file on this machine is the registered one."""

from pathlib import Path

from models_registry.errors import RegistryError
from models_registry.gguf.kept import header_facts
from models_registry.gguf.reader import GGUFError, read_header
from models_registry.models import ModelVersion
from models_registry.sources import ProgressCallback, checksum


def require_checked(version: ModelVersion, path: Path, on_progress: ProgressCallback) -> None:
    """Raise ``RegistryError``, which says what to do, unless a file is the registered one.

    Without a valid note, as after a copy or a change, the whole file is read once.
    """
    if not path.is_file():
        raise RegistryError(
            f"{version.file_name} does not exist on this machine. Download it again: python "
            f"manage.py fetch_model {version.key}. INFERENCE_MODELS_DIR must be one folder "
            "that all machines share, or hold the same files on each."
        )
    if version.sha256 and checksum.noted_sha256(path) == version.sha256:
        return
    try:
        reason = _difference(version, path, on_progress)
    except (GGUFError, OSError) as error:
        reason = f"The file was changed since it was checked. {error}"
    if reason:
        raise RegistryError(
            f"{reason} Download it again: python manage.py fetch_model {version.key}"
        )


def _difference(version: ModelVersion, path: Path, on_progress: ProgressCallback) -> str:
    header = read_header(path)
    if version.sha256:
        has_its_size = version.size_bytes in (None, header.file_bytes)
        is_same = has_its_size and checksum.has_sha256(path, version.sha256, on_progress)
    else:
        # No checksum is known; an older release may have kept fewer values of the header.
        facts, known = header_facts(header), version.header or {}
        is_same = all(facts[name] == known[name] for name in facts.keys() & known.keys())
    return "" if is_same else f"{version.file_name} is another file than the one that was checked."
