"""Find stop strings in a text that arrives in pieces, without leaking part of one."""


class StopMatcher:
    """Passes text through, holding back what may be the beginning of a stop string."""

    def __init__(self, stops: tuple[str, ...]) -> None:
        self._stops = tuple(stop for stop in stops if stop)
        self._held = ""
        self.matched = False

    def feed(self, text: str) -> str:
        """Take the next piece; return what is certain to precede any stop string.

        After a match ``matched`` is true and nothing more is returned, as in OpenAI's API: the
        stop string itself is not part of the answer.
        """
        if self.matched:
            return ""
        if not self._stops:
            return text
        text = self._held + text
        first = min((at for at in (text.find(stop) for stop in self._stops) if at >= 0), default=-1)
        if first >= 0:
            self.matched = True
            self._held = ""
            return text[:first]
        keep = self._possible_stop_length(text)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]

    def flush(self) -> str:
        """What was held back, once no more text will come."""
        held, self._held = self._held, ""
        return held

    def _possible_stop_length(self, text: str) -> int:
        """Length of the longest end of ``text`` that begins a stop string."""
        longest = min(len(text), max(len(stop) for stop in self._stops) - 1)
        for length in range(longest, 0, -1):
            end = text[-length:]
            if any(stop.startswith(end) for stop in self._stops):
                return length
        return 0
