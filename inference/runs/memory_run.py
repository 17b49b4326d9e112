"""A run whose frames are in memory: an answer that is known already."""

from collections import deque
from collections.abc import Iterable, Sequence

from inference.errors import InternalError
from inference.messages import Delta, Finished, Frame, RunHeader, Usage
from inference.runs.run import Run


class MemoryRun(Run):
    """Gives frames that are known from the start.

    Args:
        header, after: as ``Run``.
        frames: (choice, frame) in the order to give them; each choice with its last frame.
    """

    def __init__(
        self, header: RunHeader, frames: Iterable[tuple[int, Frame]], after: Sequence[int] = ()
    ) -> None:
        super().__init__(header, after)
        numbers = [0] * header.choices
        self._frames: deque[tuple[int, int, Frame]] = deque()
        for choice, frame in frames:
            numbers[choice] += 1
            if numbers[choice] > self.choices[choice].position:
                self._frames.append((choice, numbers[choice], frame))
            else:
                self.choices[choice].take(self.choices[choice].position, frame)
        self._tokens = [0] * header.choices

    async def _receive(self, within: float | None) -> tuple[int, int, Frame] | None:
        if not self._frames:
            raise InternalError("The answer in memory has no end.")
        choice, number, frame = self._frames.popleft()
        if isinstance(frame, Delta):
            self._tokens[choice] += len(frame.token_ids)
        return choice, number, frame

    async def stop(self) -> bool:
        """Replace the frames that were not read yet by a last one of each choice."""
        rest, self._frames = self._frames, deque()
        stopped = False
        for choice, state in enumerate(self.choices):
            unread = [(number, frame) for place, number, frame in rest if place == choice]
            if not unread or state.is_over:
                continue
            stopped = True
            last = unread[-1][1]
            usage = last.usage if isinstance(last, Finished) else Usage(0, 0)
            cut = Usage(usage.prompt_tokens, self._tokens[choice], usage.cached_tokens)
            self._frames.append((choice, unread[0][0], Finished("cancelled", cut)))
        return stopped
