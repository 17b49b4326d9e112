"""How a fetch tells its caller where it stands."""

from collections.abc import Callable
from typing import Literal

Phase = Literal["waiting", "downloading", "extracting", "copying", "converting", "verifying"]

# Called as on_progress(done_bytes, total_bytes or None where unknown, phase), several times a
# second. An exception that it raises cancels the fetch, which then leaves nothing behind; over
# HTTP it leaves the part that has come, and the next fetch goes on from there.
ProgressCallback = Callable[[int, int | None, Phase], None]


def ignore_progress(done_bytes: int, total_bytes: int | None, phase: Phase) -> None:
    """The callback of a caller who does not want to know."""
