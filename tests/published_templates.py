"""The chat templates in llama.cpp's source, which pip downloads once; they are kept."""

import os
import re
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import pytest

_REQUIREMENTS = Path(__file__).parents[1] / "requirements.txt"
_TEMPLATE = re.compile(r".*/llama\.cpp/models/templates/(.+)\.jinja")


@pytest.fixture(scope="session")
def published_templates() -> dict[str, str]:
    """Templates of some seventy models, by name."""
    (requirement,) = re.findall(r"^llama-cpp-python.*", _REQUIREMENTS.read_text(), re.MULTILINE)
    folder = Path(os.environ["INFERENCE_MODELS_DIR"]) / f".templates-{requirement}"
    if not folder.exists():
        _fetch(requirement, folder)
    return {path.stem: path.read_text() for path in sorted(folder.iterdir())}


def _fetch(requirement: str, folder: Path) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        command = ["download", "--quiet", "--no-deps", "--no-binary", "llama-cpp-python"]
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", *command]
        subprocess.run([*pip, "--dest", scratch, requirement], check=True)
        (archive,) = Path(scratch).glob("*.tar.gz")
        found = Path(scratch) / "templates"
        found.mkdir()
        with tarfile.open(archive) as source:
            for member in source:
                match = _TEMPLATE.fullmatch(member.name)
                file = source.extractfile(member) if match else None
                if match and file:
                    (found / f"{match[1]}.jinja").write_bytes(file.read())
        found.rename(folder)
