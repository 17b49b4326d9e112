"""The log of a host, from which it is told how it ended."""

import logging
import subprocess
import sys
from pathlib import Path

from inference.cluster.process_log import LINES, ProcessLog

CRASH = """
import ctypes, logging, sys
from pathlib import Path
from inference.cluster.process_log import ProcessLog
ProcessLog(Path(sys.argv[1]), "x").open()
logging.getLogger("engine").error("the last words")
ctypes.string_at(0)
"""


def test_last_lines_are_those_that_were_logged_last(tmp_path: Path) -> None:
    log = ProcessLog(tmp_path / "run", "a")
    assert log.last_lines() == ""
    log.open()
    for number in range(LINES + 2):
        logging.getLogger("host").warning("line %d", number)
    lines = ProcessLog(tmp_path / "run", "a").last_lines().splitlines()
    assert lines == [f"WARNING host line {number}" for number in range(2, LINES + 2)]
    log.remove()
    logging.getLogger("host").warning("nobody hears this")
    assert list((tmp_path / "run").iterdir()) == []


def test_a_crash_leaves_its_words_and_where_it_was(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", CRASH, str(tmp_path)], check=False, capture_output=True, timeout=60
    )
    assert ended.returncode < 0
    text = ProcessLog(tmp_path, "x").last_lines()
    assert "Segmentation fault" in text or "string_at" in text
