"""The one downloader for files on servers: resumes, retries, verifies; for HTTP, HF and S3."""

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
from models_registry.sources.partial import PartialFile, discard
from models_registry.sources.patience import Failures, Pace, Patience
from models_registry.sources.progress import ProgressCallback
from models_registry.sources.remote import Expected, Remote
from models_registry.sources.web_answer import Body, StartOverError, body_of
from models_registry.sources.web_client import Download, InterruptedTransferError, WebClient

_PAUSE_STEP_SECONDS: Final = 0.5


def download(
    remote: Remote,
    part: Path,
    expected: Expected,
    on_progress: ProgressCallback,
    patience: Patience | None = None,
) -> str:
    """Bring a remote file to `part`, from where an earlier try got to.

    Whatever ends this, cancelling included, leaves `part` and its note so that the next call goes
    on; only a file that can never be the right one is dropped.

    Args:
        remote: How to ask for the file.
        part: Where its bytes go.
        expected: What its checksum and size must be, as far as known.
        on_progress: Told `downloading`, and `waiting` between tries; what it raises cancels.
        patience: How long to wait for what.

    Returns:
        The sha256 (hex) of what is in `part` now.

    Raises:
        SourceError: It could not be had; the class and message say why.
    """
    patience = patience or Patience()
    client = WebClient(patience)
    try:
        with PartialFile(part, remote.url, on_progress) as partial:
            transfer = _Transfer(remote, expected, partial, on_progress, patience)
            transfer.run(client)
            note, sha256 = partial.note, partial.sha256
            require_sha256(remote.url, note.sha256, sha256)
        if note.sha256 is None and note.md5 is not None:
            require_md5(remote.url, note.md5, part, on_progress)
        return sha256
    except (SizeMismatchError, ChecksumMismatchError):
        discard(part)
        raise
    finally:
        client.close()


class _Transfer:
    """The tries of one call of `download`."""

    def __init__(
        self,
        remote: Remote,
        expected: Expected,
        partial: PartialFile,
        on_progress: ProgressCallback,
        patience: Patience,
    ) -> None:
        self._remote = remote
        self._expected = expected
        self._partial = partial
        self._on_progress = on_progress
        self._patience = patience
        self._failures = Failures()
        self._is_whole = False

    def run(self, client: WebClient) -> None:
        """Try until the file is whole."""
        if not self._can_go_on:
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
                if not self._can_go_on:
                    self._partial.start_over()

    @property
    def _can_go_on(self) -> bool:
        """Whether what is there can be told from the beginning of another file."""
        note = self._partial.note
        known = self._expected.sha256 or note.sha256
        if self._expected.sha256 and note.sha256 not in (None, self._expected.sha256):
            return False
        return bool(known or note.validator)

    def _try(self, client: WebClient) -> None:
        note, offset = self._partial.note, self._partial.size_bytes
        headers = {}
        known = None
        if offset:
            headers["Range"] = f"bytes={offset}-"
            known = Body(0, note.total_bytes, None, note.validator)
            if note.validator:
                headers["If-Range"] = note.validator
        may_be_plain = self._expected.sha256 is not None
        with client.get(self._remote.locate(), headers, may_be_plain=may_be_plain) as answered:
            body = body_of(answered.answer, self._remote, offset, known)
            self._accept(body, self._remote.promise(answered.answer))
            self._receive(answered, body)

    def _accept(self, body: Body, promise: Expected) -> None:
        """Take up a body: begin anew where it does, check sizes and room, note whose it is."""
        partial = self._partial
        if promise.sha256 and self._expected.sha256:
            require_sha256(self._remote.url, self._expected.sha256, promise.sha256)
        if body.start and promise.sha256 and partial.note.sha256 not in (None, promise.sha256):
            raise StartOverError("the file has changed on the server")
        total_bytes = self._agreed_size(body, promise)
        if body.start == 0 and (partial.size_bytes or partial.note.validator):
            partial.start_over()
        if total_bytes is not None:
            partial.reserve(total_bytes)
        partial.note.total_bytes = total_bytes
        partial.note.validator = body.validator or partial.note.validator
        partial.note.sha256 = self._expected.sha256 or promise.sha256
        partial.note.md5 = promise.md5
        partial.sync()

    def _agreed_size(self, body: Body, promise: Expected) -> int | None:
        """Bytes of the whole file, where anybody knows.

        What has come is not given up for an answer that cannot be true, such as the short page
        of a proxy: it is asked for again.
        """
        note = self._partial.note
        sha256 = self._expected.sha256 or promise.sha256
        is_same_file = sha256 is not None and sha256 == note.sha256
        sizes = {
            "the registry": self._expected.size_bytes,
            "the part that has come": note.total_bytes if is_same_file else None,
            "the server's description": promise.size_bytes,
            "the server's answer": body.total_bytes,
        }
        try:
            _require_agreement(self._remote.url, sizes)
        except SizeMismatchError as error:
            if self._partial.size_bytes:
                raise InterruptedTransferError(str(error).rstrip(".")) from error
            raise
        return next((size for size in reversed(sizes.values()) if size is not None), None)

    def _receive(self, answered: Download, body: Body) -> None:
        partial, total_bytes = self._partial, self._partial.note.total_bytes
        pace = Pace(self._patience)
        self._on_progress(partial.size_bytes, total_bytes, "downloading")
        for chunk in answered.chunks():
            if total_bytes is not None and partial.size_bytes + len(chunk) > total_bytes:
                raise SizeMismatchError(
                    f"{self._remote.url} goes on after {total_bytes} bytes, which should be all "
                    "of it. Nothing was kept."
                )
            partial.append(chunk)
            self._on_progress(partial.size_bytes, total_bytes, "downloading")
            if pace.is_too_slow(len(chunk)):
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
        """Count a failed try; the seconds to wait before the next. Raises ``kind`` after the last.

        Raises also where the server wants to be left alone for longer than anybody would wait.
        """
        came = (
            f"{self._partial.size_bytes} of {self._partial.note.total_bytes or 'unknown'} bytes "
            "have come"
        )
        failures = self._failures.note(self._partial.size_bytes)
        limit_seconds = self._patience.longest_retry_after_seconds
        if retry_after_seconds is not None and retry_after_seconds > limit_seconds:
            raise kind(
                f"{self._remote.url}: {reason} and wants no other request for "
                f"{retry_after_seconds:.0f} s. Try again then; {came}."
            )
        if failures >= self._patience.attempts:
            raise kind(
                f"{self._remote.url} could not be fetched in {failures} tries: {reason}. {came}; "
                "try again later to go on from there."
            )
        return self._patience.pause_seconds(failures, retry_after_seconds)

    def _pause(self, seconds: float) -> None:
        """Sleep in steps, so that a cancel need not wait."""
        until = self._patience.clock() + seconds
        while (remaining := until - self._patience.clock()) > 0:
            self._on_progress(self._partial.size_bytes, self._partial.note.total_bytes, "waiting")
            self._patience.sleep(min(remaining, _PAUSE_STEP_SECONDS))


def _require_agreement(url: str, sizes: dict[str, int | None]) -> None:
    """Raise `SizeMismatchError` where two that know the size disagree."""
    known = {who: size for who, size in sizes.items() if size is not None}
    if len(set(known.values())) > 1:
        numbers = ", ".join(f"{size} bytes by {who}" for who, size in known.items())
        raise SizeMismatchError(
            f"{url} has contradictory sizes: {numbers}. If the publisher replaced the file on "
            "purpose, correct size and checksum in the registry; otherwise do not use it."
        )
