"""What a host has claimed and not finished: frame numbers, merging, proof of harmlessness. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass

import msgspec

from inference.messages import (
    TERMINAL,
    Delta,
    Finished,
    Frame,
    WorkItem,
)
from inference.queue.blame import PROVEN_TOKENS, Claim
from inference.queue.claims import LAST, NOTHING, PROVEN, SERVED, Numbered


@dataclass
class _Flight:
    item: WorkItem
    waited_seconds: float
    next_number: int
    new_tokens: int = 0
    proven: bool = False
    begun_at: float = 0.0


class Flights:
    """Bookkeeping of the generations in flight on one host.

    ``generated_tokens`` counts those of all of them, also of those that have ended; ``served``
    counts those that were brought to their end.
    """

    def __init__(self) -> None:
        self._flights: dict[str, _Flight] = {}
        self.generated_tokens = 0
        self.served = 0

    def __len__(self) -> int:
        return len(self._flights)

    @property
    def proof(self) -> dict[str, bool]:
        """Generations in flight, and whether each is proven harmless."""
        return {item_id: flight.proven for item_id, flight in self._flights.items()}

    @property
    def lowest_priority(self) -> int:
        """Of what is in flight."""
        return min((flight.item.priority for flight in self._flights.values()), default=0)

    @property
    def running(self) -> list[Claim]:
        """What decides whether more may be claimed."""
        return [Claim(f.item.crashes, f.proven) for f in self._flights.values()]

    def begin(self, item: WorkItem, waited_seconds: float, now: float = 0.0) -> None:
        """Take up a claimed item; a continued one goes on with the frame numbers it had.

        Args:
            item: what was claimed.
            waited_seconds: how long it was in the queue.
            now: monotonic seconds.
        """
        self._flights[item.id] = _Flight(
            item, waited_seconds, item.emitted_frames + 1, begun_at=now
        )

    def overdue(self, now: float, limit_seconds: float) -> list[str]:
        """Generations that have run longer than any client waits."""
        return [
            item_id
            for item_id, flight in self._flights.items()
            if now - flight.begun_at > limit_seconds
        ]

    def is_urgent(self, outputs: Iterable[tuple[str, Frame]]) -> bool:
        """Whether a client waits for one of these: a beginning, a first token or an end."""
        return any(
            not isinstance(frame, Delta)
            or (item_id in self._flights and not self._flights[item_id].new_tokens)
            for item_id, frame in outputs
        )

    def number(self, outputs: Iterable[tuple[str, Frame]]) -> list[Numbered]:
        """Merge and number frames for publishing; a last frame ends its flight.

        Successive deltas of one generation become one frame, so a busy host writes less often.
        """
        merged: dict[str, list[Frame]] = {}
        for item_id, frame in outputs:
            frames = merged.setdefault(item_id, [])
            if frames and isinstance(frame, Delta) and isinstance(frames[-1], Delta):
                frames[-1] = _join(frames[-1], frame)
            else:
                frames.append(frame)
        numbered: list[Numbered] = []
        for item_id, frames in merged.items():
            flight = self._flights.get(item_id)
            if flight is not None:
                numbered.extend(self._number_one(flight, frame) for frame in frames)
        return numbered

    def _number_one(self, flight: _Flight, frame: Frame) -> Numbered:
        mark = NOTHING
        if isinstance(frame, Delta):
            flight.new_tokens += len(frame.token_ids)
            self.generated_tokens += len(frame.token_ids)
            if not flight.proven and flight.new_tokens >= PROVEN_TOKENS:
                flight.proven = True
                mark = PROVEN
        elif isinstance(frame, TERMINAL):
            mark = LAST
            del self._flights[flight.item.id]
        if isinstance(frame, Finished):
            mark = SERVED
            self.served += 1
            timings = msgspec.structs.replace(frame.timings, queue_seconds=flight.waited_seconds)
            frame = msgspec.structs.replace(frame, timings=timings)
        number = flight.next_number
        flight.next_number += 1
        return Numbered(flight.item.id, number, frame, mark)


def _join(first: Delta, second: Delta) -> Delta:
    return Delta(
        text=first.text + second.text,
        token_ids=first.token_ids + second.token_ids,
        logprobs=first.logprobs + second.logprobs,
    )
