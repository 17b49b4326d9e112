"""The stream of a run of several models: events, the text of the answer, and the end."""

import asyncio
from collections.abc import Sequence
from typing import Any

import msgspec

from inference.messages import Delta, Frame, Phase, Started, decode_frame
from inference.orchestration.stage import Said
from inference.queue.relay import Relay, Standing


class RunStream:
    """Writes what the stream does not have yet, so that a run can be gone through again.

    Args:
        relay: of the stream.
        events: of the request: ``phases``, ``text`` or ``none``.
        sent: the frames that the stream has.

    Attributes:
        answered_by: key of the call whose text is being given; "" before the answer.
    """

    def __init__(self, relay: Relay, events: str, sent: Sequence[Frame]) -> None:
        self._relay, self._events = relay, events
        self._writing = asyncio.Lock()
        self._has_started = any(isinstance(frame, Started) for frame in sent)
        self._known = [frame.event for frame in sent if isinstance(frame, Phase)]
        self._deltas_sent = sum(isinstance(frame, Delta) for frame in sent)
        self.answered_by = ""

    async def standing(self) -> Standing:
        """Renew the lease of the run. Raises ``LostRunError``."""
        async with self._writing:
            return await self._relay.write()

    async def start(self, frame: Started) -> None:
        """Write the first frame, once."""
        if not self._has_started:
            self._has_started = True
            await self.write(frame)

    async def tell(self, event: str, **facts: Any) -> None:
        """Write an event."""
        if self._events == "none" or (event == "step_text" and self._events != "text"):
            return
        # As readers have it: without tuples.
        content = msgspec.json.decode(msgspec.json.encode({"v": 1, "event": event, **facts}))
        if content in self._known:
            self._known.remove(content)
        else:
            await self.write(Phase(content))

    async def give(self, said: Said) -> None:
        """Write the text of a call, which is the answer."""
        for number, data in enumerate(said.frames, 1):
            frame = decode_frame(data)
            if isinstance(frame, Delta):
                await self.give_part(said.key, number, frame)

    async def give_part(self, key: str, number: int, frame: Delta) -> None:
        """Write part ``number``, from 1, of the text of the call ``key``."""
        if key != self.answered_by:
            # Blanks of a call that failed may stand before.
            self._deltas_sent = 0 if self.answered_by else self._deltas_sent
            self.answered_by = key
        if number > self._deltas_sent:
            self._deltas_sent = number
            await self.write(frame)

    async def write(self, frame: Frame) -> None:
        async with self._writing:
            await self._relay.write([frame])
