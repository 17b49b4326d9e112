"""Types that `fetch`, its callers and the readers of the schemes share."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

Phase = Literal["waiting", "downloading", "extracting", "copying", "converting", "verifying"]

# Called as on_progress(done_bytes, total_bytes or None if unknown, phase), several times a second.
# An exception that it raises cancels the fetch. Bytes that came over HTTP stay for the next fetch,
# everything else is removed.
ProgressCallback = Callable[[int, int | None, Phase], None]


def ignore_progress(done_bytes: int, total_bytes: int | None, phase: Phase) -> None:
    """Do nothing."""


@dataclass(frozen=True)
class Access:
    """Credentials and addresses of sources; botocore finds those of S3 by itself."""

    hf_token: str = field(default="", repr=False)
    hf_endpoint: str = "https://huggingface.co"
    only_public: bool = False  # refuse web sources on this machine and in private networks


ANONYMOUS: Final = Access()


@dataclass(frozen=True)
class Target:
    """Where a `FileWriter` writes, and how it reports progress."""

    path: Path
    scratch: Path  # an empty folder on the same disk
    size_bytes: int | None  # of the file, if known
    on_progress: ProgressCallback


# Writes the file to `target.path` and returns its sha256 (hex); raises `SourceError`.
FileWriter = Callable[[Target], str]
