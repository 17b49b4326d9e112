"""Events as they cross the wire, with their ids, and also when the connection breaks."""

import http.client
import json
import threading
import urllib.request
from typing import Any, Self

from tests.waiting import wait_until


class Events:
    """A stream of events, read in a thread.

    Args:
        url: of the route.
        api_key: of the caller.
        body: to send; None for GET.
        last_event_id: from which on to read.

    Attributes:
        lines: all that came, without the empty ones.
        chunks: the events in order, without ``[DONE]``.
        last_id: of the newest event.
    """

    def __init__(
        self, url: str, api_key: str, body: dict[str, Any] | None = None, last_event_id: str = ""
    ) -> None:
        headers = {"Authorization": f"Bearer {api_key}", "Content-Type": "application/json"}
        if last_event_id:
            headers["Last-Event-ID"] = last_event_id
        data = None if body is None else json.dumps(body).encode()
        self._request = urllib.request.Request(url, data, headers)
        self.lines: list[str] = []
        self.chunks: list[dict[str, Any]] = []
        self.last_id = ""
        self.error: Exception | None = None
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        try:
            with urllib.request.urlopen(self._request, timeout=120) as response:
                for line in response:
                    self._take(line.decode().rstrip())
        except (OSError, http.client.HTTPException) as error:
            self.error = error

    def _take(self, line: str) -> None:
        if line:
            self.lines.append(line)
        if line.startswith("data: {"):
            self.chunks.append(json.loads(line.removeprefix("data: ")))
        elif line.startswith("id: "):
            self.last_id = line.removeprefix("id: ")

    def wait_over(self, timeout_seconds: float = 120) -> Self:
        self._thread.join(timeout_seconds)
        assert not self._thread.is_alive(), f"the client was left hanging after {self.lines[-3:]}"
        return self

    def wait_told(self, event: str, step: str) -> Self:
        """Wait for an event of a run of several models."""
        wait_until(lambda: (event, step) in self.told or self._is_over(), 60)
        assert (event, step) in self.told, self.lines[-3:]
        return self

    def wait_text(self, pieces: int = 5) -> Self:
        """Wait until some pieces of the answer are there."""
        wait_until(lambda: len(self._pieces()) >= pieces or self._is_over(), 60)
        assert len(self._pieces()) >= pieces, self.lines[-3:]
        return self

    def _is_over(self) -> bool:
        return not self._thread.is_alive()

    @property
    def id(self) -> str:
        """The id of the answer."""
        return str(self.chunks[0]["id"])

    @property
    def is_done(self) -> bool:
        return self.lines[-1] == "data: [DONE]"

    def _pieces(self) -> list[str]:
        choices = [choice for chunk in self.chunks for choice in chunk.get("choices", ())]
        return [piece for choice in choices if (piece := choice["delta"].get("content"))]

    @property
    def text(self) -> str:
        return "".join(self._pieces())

    @property
    def told(self) -> list[tuple[str, str]]:
        """The beginnings and ends of calls, in order."""
        about = [chunk.get("orchestration", {}) for chunk in self.chunks]
        events = ("step_start", "step_end")
        return [(each["event"], each["step"]) for each in about if each.get("event") in events]

    @property
    def finish_reason(self) -> str | None:
        reasons = [
            choice["finish_reason"] for chunk in self.chunks for choice in chunk.get("choices", ())
        ]
        return next(filter(None, reasons), None)
