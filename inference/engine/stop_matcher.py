class StopMatcher:
    """Finds stop strings in a text that comes in pieces; holds back a possible beginning of one."""

    def __init__(self, stops: tuple[str, ...]) -> None:
        self._stops = tuple(stop for stop in stops if stop)
        self._held = ""
        self.matched = False

    def feed(self, text: str) -> str:
        """Add a piece; return the text that certainly precedes any stop string."""
        if self.matched:  # a stop string is not part of the answer, nor is anything after it
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
        """Return the text held back, once no more will come."""
        held, self._held = self._held, ""
        return held

    def _possible_stop_length(self, text: str) -> int:
        longest = min(len(text), max(len(stop) for stop in self._stops) - 1)
        for length in range(longest, 0, -1):
            end = text[-length:]
            if any(stop.startswith(end) for stop in self._stops):
                return length
        return 0
