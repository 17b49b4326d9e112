"""The observation of one request: times, text, counts, and its end."""

from dataclasses import dataclass, field
from itertools import pairwise

from inference_site.tools.bench.wire import Usage


@dataclass(frozen=True, slots=True)
class Arrival:
    """Text from one read of the socket.

    Args:
        at_seconds: on the client's monotonic clock.
        frames: number of frames with text.
        characters: length of the text.
    """

    at_seconds: float
    frames: int
    characters: int


@dataclass(frozen=True, slots=True)
class Failure:
    """The reason why a request failed.

    Args:
        kind: a short word to count by: ``connect``, ``timeout``, ``disconnected``, ``cut_off``
            (the stream ended without an end), ``bad_frame``, ``http_503 model_busy``,
            ``stream_error host_lost`` …
        message: from the server or the network.
    """

    kind: str
    message: str


@dataclass(slots=True)
class Observation:
    """One request, filled in while it runs.

    Args:
        started_seconds: when it was sent, or was due in an open loop, so that a late client does
            not flatter the server.
        requested_prompt_tokens: the length asked for.
        requested_output_tokens: its ``max_tokens``.
        streamed: whether the answer came as a stream; otherwise it has no TTFT.
        arrivals: text in the order in which it came.
        text: the answer.
        usage: the server's count; None when it sent none.
        finish_reason: why the answer ended.
        finished_seconds: when the last byte was read or the failure was noticed.
        failure: None when all went well.
    """

    started_seconds: float
    requested_prompt_tokens: int = 0
    requested_output_tokens: int = 0
    streamed: bool = True
    arrivals: list[Arrival] = field(default_factory=list)
    text: str = ""
    usage: Usage | None = None
    finish_reason: str | None = None
    finished_seconds: float = 0.0
    failure: Failure | None = None

    @property
    def ttft_seconds(self) -> float | None:
        """Seconds from sending to the first text; a chunk with only a role does not count."""
        if not self.streamed or not self.arrivals:
            return None
        return self.arrivals[0].at_seconds - self.started_seconds

    @property
    def streaming_tokens_per_second(self) -> float | None:
        """Tokens after the first arrival divided by the time after it; None with one arrival."""
        if len(self.arrivals) < 2:
            return None
        elapsed = self.arrivals[-1].at_seconds - self.arrivals[0].at_seconds
        return sum(self.arrival_tokens()[1:]) / elapsed if elapsed > 0 else None

    @property
    def latency_seconds(self) -> float:
        """Seconds from sending to the end of the answer."""
        return self.finished_seconds - self.started_seconds

    @property
    def frames(self) -> int:
        """Number of frames with text."""
        return sum(arrival.frames for arrival in self.arrivals)

    @property
    def completion_tokens(self) -> int:
        """The server's count of generated tokens; without one, the number of frames with text."""
        return self.usage.completion_tokens if self.usage is not None else self.frames

    def arrival_tokens(self) -> list[int]:
        """Return the number of tokens of each arrival.

        Where the server sent fewer frames than it counted tokens, the tokens are distributed by
        length of text, at least one each: an estimate, since the protocol does not say how many
        tokens a chunk contains.
        """
        if self.completion_tokens <= self.frames:
            return [arrival.frames for arrival in self.arrivals]
        characters = sum(arrival.characters for arrival in self.arrivals)
        share = self.completion_tokens / characters
        return [max(arrival.frames, round(share * arrival.characters)) for arrival in self.arrivals]

    def chunk_gaps_seconds(self) -> list[float]:
        """Return the seconds between arrivals of text: the pauses that a reader sees."""
        times = [arrival.at_seconds for arrival in self.arrivals]
        return [later - earlier for earlier, later in pairwise(times)]

    def inter_token_seconds(self) -> list[float]:
        """Return inter-token latencies: each gap, divided among the tokens that ended it.

        A gap g that ends with k tokens counts as k values of g/k. Otherwise a server that sends two
        tokens at a time would count as slow for one and instant for the other.
        """
        values: list[float] = []
        gaps = self.chunk_gaps_seconds()
        for gap, tokens in zip(gaps, self.arrival_tokens()[1:], strict=True):
            values.extend([gap / tokens] * tokens)
        return values
