"""The downloader for files on web servers (HTTP, Hugging Face, S3): resumes, retries, verifies."""

from contextlib import closing
from pathlib import Path
from typing import Final

from models_registry.sources.checksum import require_md5, require_sha256
from models_registry.sources.errors import (
    ChecksumMismatchError,
    DownloadFailedError,
    SizeMismatchError,
    SourceError,
    SourceUnreachableError,
)
from models_registry.sources.http.client import (
    InterruptedTransferError,
    StreamedResponse,
    WebClient,
)
from models_registry.sources.http.partial import PartialFile, discard
from models_registry.sources.http.remote import Expected, RemoteFile
from models_registry.sources.http.response import BodyRange, StartOverError, body_range
from models_registry.sources.http.retry import FailureCount, RateMonitor, RetryPolicy
from models_registry.sources.interface import ProgressCallback

_PAUSE_STEP_SECONDS: Final = 0.5


def download(
    remote: RemoteFile, part: Path, expected: Expected, on_progress: ProgressCallback
) -> str:
    """Download a file to `part`, after the bytes of an earlier try; returns its sha256 (hex).

    Any error, and a cancel by `on_progress`, leaves `part` and its note for the next call; only a
    part with the wrong size or checksum is deleted. Raises `SourceError`.
    """
    policy = RetryPolicy()
    try:
        with (
            closing(WebClient(policy)) as client,
            PartialFile(part, remote.url, on_progress) as partial,
        ):
            _Transfer(remote, expected, partial, on_progress, policy).run(client)
            note, sha256 = partial.note, partial.sha256
            require_sha256(remote.url, note.sha256, sha256)
        if note.sha256 is None and note.md5 is not None:
            require_md5(remote.url, note.md5, part, on_progress)
        return sha256
    except (SizeMismatchError, ChecksumMismatchError):
        discard(part)
        raise


class _Transfer:
    def __init__(
        self,
        remote: RemoteFile,
        expected: Expected,
        partial: PartialFile,
        on_progress: ProgressCallback,
        policy: RetryPolicy,
    ) -> None:
        self._remote = remote
        self._expected = expected
        self._partial = partial
        self._on_progress = on_progress
        self._policy = policy
        self._failures = FailureCount()
        self._is_whole = False

    def run(self, client: WebClient) -> None:
        if not self._can_continue:
            self._partial.start_over()
        note = self._partial.note
        self._is_whole = bool(note.total_bytes) and note.total_bytes == self._partial.size_bytes
        while not self._is_whole:
            try:
                self._try(client)
            except StartOverError as reason:
                self._count_failure(DownloadFailedError, str(reason))
                self._partial.start_over()
            except InterruptedTransferError as reason:
                kind = DownloadFailedError if self._partial.size_bytes else SourceUnreachableError
                pause_seconds = self._count_failure(kind, str(reason), reason.retry_after_seconds)
                self._pause(pause_seconds)
                if not self._can_continue:
                    self._partial.start_over()

    @property
    def _can_continue(self) -> bool:
        """Whether a validator or checksum ties the part to the expected file."""
        note = self._partial.note
        known = self._expected.sha256 or note.sha256
        if self._expected.sha256 and note.sha256 not in (None, self._expected.sha256):
            return False
        return bool(known or note.validator)

    def _try(self, client: WebClient) -> None:
        note, offset = self._partial.note, self._partial.size_bytes
        wanted = BodyRange(offset, note.total_bytes, None, note.validator)
        headers = {}
        if offset:
            headers["Range"] = f"bytes={offset}-"
            if note.validator:
                headers["If-Range"] = note.validator
        allow_plain = self._expected.sha256 is not None
        with client.get(self._remote.locate(), headers, allow_plain=allow_plain) as response:
            body = body_range(response.head, self._remote, wanted)
            self._begin(body, self._remote.declared(response.head))
            self._receive(response, body)

    def _begin(self, body: BodyRange, declared: Expected) -> None:
        """Check sizes and disk space before a body is read, and note the facts about the file."""
        partial = self._partial
        if declared.sha256 and self._expected.sha256:
            require_sha256(self._remote.url, self._expected.sha256, declared.sha256)
        if body.start and declared.sha256 and partial.note.sha256 not in (None, declared.sha256):
            raise StartOverError("the file has changed on the server")
        total_bytes = self._agreed_size(body, declared)
        if body.start == 0 and (partial.size_bytes or partial.note.validator):
            partial.start_over()
        if total_bytes is not None:
            partial.reserve(total_bytes)
        partial.note.total_bytes = total_bytes
        partial.note.validator = body.validator or partial.note.validator
        partial.note.sha256 = self._expected.sha256 or declared.sha256
        partial.note.md5 = declared.md5
        partial.sync()

    def _agreed_size(self, body: BodyRange, declared: Expected) -> int | None:
        note = self._partial.note
        sha256 = self._expected.sha256 or declared.sha256
        is_same_file = sha256 is not None and sha256 == note.sha256
        sizes = {
            "the registry": self._expected.size_bytes,
            "the downloaded part": note.total_bytes if is_same_file else None,
            "the server's description": declared.size_bytes,
            "the server's answer": body.total_bytes,
        }
        known = {who: size for who, size in sizes.items() if size is not None}
        if len(set(known.values())) > 1:
            numbers = ", ".join(f"{size} bytes by {who}" for who, size in known.items())
            error = SizeMismatchError(
                f"{self._remote.url} has contradictory sizes: {numbers}. If the publisher replaced "
                "the file on purpose, correct size and checksum in the registry; otherwise do not "
                "use it."
            )
            if self._partial.size_bytes:  # a proxy may have sent an error page: try again
                raise InterruptedTransferError(str(error).rstrip(".")) from error
            raise error
        return next(reversed(known.values()), None)

    def _receive(self, response: StreamedResponse, body: BodyRange) -> None:
        partial, total_bytes = self._partial, self._partial.note.total_bytes
        rate = RateMonitor(self._policy)
        self._on_progress(partial.size_bytes, total_bytes, "downloading")
        for chunk in response.chunks():
            if total_bytes is not None and partial.size_bytes + len(chunk) > total_bytes:
                raise SizeMismatchError(
                    f"{self._remote.url} is longer than {total_bytes} bytes, its expected size. "
                    "Nothing was kept."
                )
            partial.append(chunk)
            self._on_progress(partial.size_bytes, total_bytes, "downloading")
            if rate.is_too_slow(len(chunk)):
                raise InterruptedTransferError("the connection had become too slow")
        self._is_whole = total_bytes is None or partial.size_bytes == total_bytes
        if self._is_whole:
            return
        if body.total_bytes is None:
            raise SizeMismatchError(
                f"{self._remote.url} ended after {partial.size_bytes} bytes; it should have "
                f"{total_bytes}. Nothing was kept."
            )
        raise InterruptedTransferError(f"the server sent {body.length_bytes} bytes and no more")

    def _count_failure(
        self, kind: type[SourceError], reason: str, retry_after_seconds: float | None = None
    ) -> float:
        """Return the seconds to wait before the next try.

        Raises ``kind`` after the last try, or if the server asks for a pause that is too long.
        """
        total_bytes = self._partial.note.total_bytes or "unknown"
        received = f"{self._partial.size_bytes} of {total_bytes} bytes were received"
        failures = self._failures.add(self._partial.size_bytes)
        limit_seconds = self._policy.longest_retry_after_seconds
        if retry_after_seconds is not None and retry_after_seconds > limit_seconds:
            raise kind(
                f"{self._remote.url}: {reason} and allows no other request for "
                f"{retry_after_seconds:.0f} s. Try again then; {received}."
            )
        if failures >= self._policy.attempts:
            raise kind(
                f"{self._remote.url} could not be fetched in {failures} tries: {reason}. "
                f"{received}; try again later to continue."
            )
        return self._policy.pause_seconds(failures, retry_after_seconds)

    def _pause(self, seconds: float) -> None:
        until = self._policy.clock() + seconds
        while (remaining := until - self._policy.clock()) > 0:
            self._on_progress(self._partial.size_bytes, self._partial.note.total_bytes, "waiting")
            # In steps, so that on_progress can cancel meanwhile.
            self._policy.sleep(min(remaining, _PAUSE_STEP_SECONDS))
