"""``make`` on a machine that lacks something: all of it is told before anything is installed."""

import shutil
import subprocess
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
COPIED = ("Makefile", "requirements.txt", "requirements-dev.txt", "third_party")
# Has all modules unless one is named; of what it was told to do it keeps a record.
PYTHON = """#!/bin/sh
echo "$*" >>"$RECORD"
case "$*" in *ensurepip*) exit "$NO_VENV" ;; *version_info*) exit "$TOO_OLD" ;; esac
"""
ALL = {"c++", "cc", "patch", "make", "python3"}


def make(
    folder: Path, tools: set[str], target: str = "run", **variables: str
) -> tuple[int, str, str]:
    """Status, words and what Python was told of ``make`` in a copy where only ``tools`` exist."""
    for name in COPIED:
        source = REPOSITORY / name
        copy = shutil.copytree if source.is_dir() else shutil.copy
        copy(source, folder / name)
    programs, record = folder / "bin", folder / "record"
    programs.mkdir()
    record.touch()
    for name in ("sh", "basename"):
        (programs / name).symlink_to(str(shutil.which(name)))
    for name in tools:
        (programs / name).write_text(PYTHON if name.startswith("python") else "#!/bin/sh\n")
        (programs / name).chmod(0o755)
    environment = {"PATH": str(programs), "RECORD": str(record), "NO_VENV": "0", "TOO_OLD": "0"}
    ended = subprocess.run(
        [str(shutil.which("make")), target],
        cwd=folder,
        env=environment | variables,
        capture_output=True,
        text=True,
        check=False,
    )
    return ended.returncode, ended.stderr, record.read_text()


@pytest.mark.parametrize("target", ["run", "test"])
def test_make_names_all_that_is_missing_before_it_installs(tmp_path: Path, target: str) -> None:
    status, said, told = make(tmp_path, {"python3"}, target, NO_VENV="1")
    assert status != 0
    assert said.splitlines()[1:6] == [
        "  the module venv of Python",
        "  a C++ compiler (c++)",
        "  a C compiler (cc)",
        "  make",
        "  patch",
    ]
    assert "apt install python3-venv g++ gcc make patch\n" in said
    assert "-m venv" not in told
    assert not (tmp_path / ".venv").exists()


def test_make_names_one_thing_alone(tmp_path: Path) -> None:
    _, said, _ = make(tmp_path, ALL - {"patch"})
    assert said.splitlines()[:3] == [
        "Before Brigade can be installed, this is missing:",
        "  patch",
        "Debian and Ubuntu: apt install patch",
    ]


def test_make_asks_for_the_compiler_that_is_named(tmp_path: Path) -> None:
    _, said, _ = make(tmp_path, ALL, CXX="ccache g++")
    assert "C++ compiler (ccache)" in said


@pytest.mark.parametrize("tools", [ALL - {"python3"}, ALL])
def test_make_asks_for_a_newer_python(tmp_path: Path, tools: set[str]) -> None:
    status, said, told = make(tmp_path, tools, TOO_OLD="1")
    assert status != 0
    assert "Python 3.11 or newer" in said
    assert "PYTHON=" in said
    assert "-m venv" not in told


def test_make_names_the_venv_package_of_the_python_that_is_set(tmp_path: Path) -> None:
    _, said, _ = make(tmp_path, ALL | {"python3.12"}, PYTHON="python3.12", NO_VENV="1")
    assert "apt install python3.12-venv\n" in said


def test_make_that_lacks_nothing_makes_the_environment(tmp_path: Path) -> None:
    _, said, told = make(tmp_path, ALL)
    assert "missing" not in said
    assert "-m venv .venv" in told


def test_make_asks_again_where_the_environment_is_there(tmp_path: Path) -> None:
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / ".venv" / "bin" / "python").write_text("#!/bin/sh\n")
    _, said, told = make(tmp_path, ALL - {"c++"}, NO_VENV="1")
    assert "C++ compiler" in said
    assert "module venv" not in said
    assert told == ""
