"""The log of a host, and its last lines for a controller that cannot read the file."""

import logging
import subprocess
import sys
from pathlib import Path

from django.conf import settings

from inference.cluster.host_log import (
    KEPT_SECONDS,
    LINES,
    HostLog,
    HostLogPublisher,
    published_lines,
)
from inference.queue import keys
from tests.inference.queue.world import QueueWorld

CRASH = """
import ctypes, logging, sys
from pathlib import Path
from inference.cluster.host_log import HostLog
HostLog(Path(sys.argv[1]), "x").open()
logging.getLogger("engine").error("the last line")
ctypes.string_at(0)
"""


def test_last_lines_are_the_latest_log_lines(tmp_path: Path) -> None:
    log = HostLog(tmp_path / "run", "a")
    assert log.last_lines() == ""
    log.open()
    for number in range(LINES + 2):
        logging.getLogger("host").warning("line %d", number)
    lines = HostLog(tmp_path / "run", "a").last_lines().splitlines()
    assert lines == [f"WARNING host line {number}" for number in range(2, LINES + 2)]
    log.remove()
    logging.getLogger("host").warning("not logged")
    assert list((tmp_path / "run").iterdir()) == []


def test_a_crash_leaves_its_error_and_stack(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", CRASH, str(tmp_path)], check=False, capture_output=True, timeout=60
    )
    assert ended.returncode < 0
    text = HostLog(tmp_path, "x").last_lines()
    assert "Segmentation fault" in text or "string_at" in text


def leave_files(folder: Path, launch: str, node: str) -> list[Path]:
    """Leave the files of a host that was killed."""
    lock, log = (folder / f"host-{launch}.{kind}" for kind in ("lock", "log"))
    lock.write_text(f"77 {node}")
    log.write_text("one\nthe last line\n")
    return [lock, log]


def test_last_lines_of_a_dead_host_are_published_and_its_files_removed_in_the_end(
    world: QueueWorld, tmp_path: Path
) -> None:
    now = 0.0
    publisher = HostLogPublisher(tmp_path, lambda: now)
    launch = world.new_launch()
    files = leave_files(tmp_path, launch, settings.NODE_NAME)
    assert published_lines(world.redis, launch) == ""
    publisher.publish(world.redis)
    assert published_lines(world.redis, launch).endswith("the last line")
    assert 0 < int(world.redis.ttl(keys.host_log(launch))) <= KEPT_SECONDS
    now = KEPT_SECONDS - 1
    publisher.publish(world.redis)
    assert all(path.exists() for path in files)
    now = KEPT_SECONDS
    publisher.publish(world.redis)
    assert not any(path.exists() for path in files)


def test_hosts_of_another_node_in_the_same_folder_are_not_published(
    world: QueueWorld, tmp_path: Path
) -> None:
    launch = world.new_launch()
    leave_files(tmp_path, launch, "another")
    HostLogPublisher(tmp_path).publish(world.redis)
    assert published_lines(world.redis, launch) == ""
