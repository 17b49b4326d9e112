"""How many tokens a second a host generates."""


class TokenRate:
    """The rate between two readings of a count that only grows."""

    def __init__(self) -> None:
        self._last: tuple[float, int] | None = None

    def update(self, now_seconds: float, total_tokens: int) -> float:
        """Tokens per second since the last reading; 0 at the first.

        Args:
            now_seconds: monotonic.
            total_tokens: generated so far.
        """
        last, self._last = self._last, (now_seconds, total_tokens)
        if last is None or now_seconds <= last[0]:
            return 0.0
        return round((total_tokens - last[1]) / (now_seconds - last[0]), 1)
