"""The items that a host has claimed and not finished: frame numbers, merging, proof."""

from collections.abc import Iterable
from dataclasses import dataclass

import msgspec

from inference.messages import TERMINAL, Delta, Finished, Frame, Generation, WorkItem
from inference.queue.blame import PROVEN_TOKENS, Claim
from inference.queue.claims import CUT, KEPT, LAST, NOTHING, PROVEN, SERVED, Numbered
from inference.tracing import record_item


@dataclass
class _Claimed:
    item: WorkItem
    waited_seconds: float
    began_at: float
    next_number: int
    new_tokens: int = 0
    proven: bool = False


class ClaimedItems:
    """``generated_tokens`` and ``served`` (finished items) count ended items too.

    Args:
        weights: identity of the file that the host has loaded.
    """

    def __init__(self, weights: str = "") -> None:
        self._weights = weights
        self._claimed: dict[str, _Claimed] = {}
        self._last_reading: tuple[float, int] | None = None
        self.generated_tokens = 0
        self.served = 0

    def __len__(self) -> int:
        return len(self._claimed)

    @property
    def proof(self) -> dict[str, bool]:
        """For each claimed item whether it is proven, that is harmless to its host."""
        return {item_id: claimed.proven for item_id, claimed in self._claimed.items()}

    @property
    def lowest_priority(self) -> int:
        return min((claimed.item.priority for claimed in self._claimed.values()), default=0)

    @property
    def running(self) -> list[Claim]:
        return [Claim(each.item.crashes, each.proven) for each in self._claimed.values()]

    def begin(self, item: WorkItem, waited_seconds: float, now: float) -> None:
        """Add a claimed item at monotonic time ``now``; a continued one keeps its frame numbers."""
        self._claimed[item.id] = _Claimed(item, waited_seconds, now, item.emitted_frames + 1)

    def overdue(self, now: float, limit_seconds: float) -> list[str]:
        return [
            item_id
            for item_id, claimed in self._claimed.items()
            if now - claimed.began_at > limit_seconds
        ]

    def tokens_per_second(self, now: float) -> float:
        """Tokens generated per second since the last call; 0 at the first."""
        last, self._last_reading = self._last_reading, (now, self.generated_tokens)
        if last is None or now <= last[0]:
            return 0.0
        return round((self.generated_tokens - last[1]) / (now - last[0]), 1)

    def is_urgent(self, outputs: Iterable[tuple[str, Frame]]) -> bool:
        """Whether a client waits for one of the frames: a beginning, a first token or an end."""
        return any(
            not isinstance(frame, Delta)
            or (item_id in self._claimed and not self._claimed[item_id].new_tokens)
            for item_id, frame in outputs
        )

    def number(self, outputs: Iterable[tuple[str, Frame]]) -> list[Numbered]:
        """Merge and number frames for publishing; a terminal frame removes its item.

        Successive deltas of one generation become one frame, so a busy host writes less often.
        """
        merged: dict[str, list[Frame]] = {}
        for item_id, frame in outputs:
            frames = merged.setdefault(item_id, [])
            last = frames[-1] if frames else None
            if isinstance(frame, Delta) and isinstance(last, Delta):
                frames[-1] = Delta(
                    text=last.text + frame.text,
                    token_ids=last.token_ids + frame.token_ids,
                    logprobs=last.logprobs + frame.logprobs,
                )
            else:
                frames.append(frame)
        numbered: list[Numbered] = []
        for item_id, frames in merged.items():
            claimed = self._claimed.get(item_id)
            if claimed is not None:
                numbered.extend(self._number_one(claimed, frame) for frame in frames)
        return numbered

    def _number_one(self, claimed: _Claimed, frame: Frame) -> Numbered:
        mark = NOTHING
        if isinstance(frame, Delta):
            claimed.new_tokens += len(frame.token_ids)
            self.generated_tokens += len(frame.token_ids)
            if not claimed.proven and claimed.new_tokens >= PROVEN_TOKENS:
                claimed.proven = True
                mark = PROVEN
        elif isinstance(frame, TERMINAL):
            mark = LAST
            del self._claimed[claimed.item.id]
            timings = msgspec.structs.replace(frame.timings, queue_seconds=claimed.waited_seconds)
            frame = msgspec.structs.replace(frame, timings=timings)
            record_item(claimed.item, claimed.began_at, frame)
        if isinstance(frame, Finished):
            item = claimed.item
            # The file may have been replaced between this host's load and the request, or between
            # the load of an earlier host that has begun the answer and this one's.
            is_same = isinstance(item, Generation) and item.weights == self._weights != ""
            kept = {"stop": KEPT, "length": CUT}
            mark = SERVED if item.emitted_frames or not is_same else kept.get(frame.reason, SERVED)
            self.served += 1
        number = claimed.next_number
        claimed.next_number += 1
        return Numbered(claimed.item.id, number, frame, mark)
