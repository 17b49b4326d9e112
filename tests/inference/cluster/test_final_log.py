"""How a host ended is told to a controller that cannot read its log."""

from pathlib import Path

from django.conf import settings

from inference.cluster.final_log import KEPT_SECONDS, LastWords, last_words
from inference.queue import keys
from tests.inference.queue.world import QueueWorld


def leave_files(folder: Path, launch: str, node: str) -> list[Path]:
    """What a host that was killed leaves behind."""
    lock, log = (folder / f"host-{launch}.{kind}" for kind in ("lock", "log"))
    lock.write_text(f"77 {node}")
    log.write_text("one\nthe last words\n")
    return [lock, log]


def test_the_last_lines_of_a_dead_host_are_told_and_its_files_go_in_the_end(
    world: QueueWorld, tmp_path: Path
) -> None:
    now = 0.0
    words = LastWords(tmp_path, lambda: now)
    launch = world.new_launch()
    files = leave_files(tmp_path, launch, settings.NODE_NAME)
    assert last_words(world.redis, launch) == ""
    words.tell(world.redis)
    assert last_words(world.redis, launch).endswith("the last words")
    assert 0 < int(world.redis.ttl(keys.last_words(launch))) <= KEPT_SECONDS
    now = KEPT_SECONDS - 1
    words.tell(world.redis)
    assert all(path.exists() for path in files)
    now = KEPT_SECONDS
    words.tell(world.redis)
    assert not any(path.exists() for path in files)


def test_hosts_of_another_node_in_the_same_folder_are_left_to_it(
    world: QueueWorld, tmp_path: Path
) -> None:
    launch = world.new_launch()
    leave_files(tmp_path, launch, "another")
    LastWords(tmp_path).tell(world.redis)
    assert last_words(world.redis, launch) == ""
