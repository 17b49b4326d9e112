"""The thread that owns an engine: commands arrive in a mailbox, frames leave by a queue."""

import queue
import threading
import time
from collections.abc import Callable
from typing import Any, Protocol

from inference.messages import Frame

Outputs = list[tuple[str, Frame]]
Command = Callable[[], Outputs]

# A step of fewer tokens ends about as soon without an abort.
ABORT_WORTH_TOKENS = 64


class StepEngine(Protocol):
    """The interface of the generation engine and the embedding engine."""

    step_tokens_in_flight: int
    # Items taken already wait for room. More should wait in the queue, where other hosts see them.
    is_full: bool

    @property
    def is_idle(self) -> bool: ...

    @property
    def running_sequences(self) -> int: ...

    @property
    def waiting_sequences(self) -> int:
        """Items taken but not in progress."""

    @property
    def used_cells(self) -> int: ...

    def submit(self, item: Any) -> Outputs: ...

    def cancel(self, item_id: str) -> None: ...

    def step(self) -> Outputs: ...

    def check_integrity(self) -> None:
        """Raise ``BackendError`` when cells or sequence ids leaked."""


class EngineThread:
    """Runs an engine until ``stop``; the methods may be called from any other thread."""

    def __init__(self, engine: StepEngine, abort: Callable[[], None] | None = None) -> None:
        self._engine = engine
        self._abort = abort
        self._mailbox: queue.SimpleQueue[Command | None] = queue.SimpleQueue()
        self.outputs: queue.SimpleQueue[Outputs] = queue.SimpleQueue()
        # After a failure the model's state is unknown and the process should end.
        self.failure: BaseException | None = None
        self._step_began_at: float | None = None
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._mailbox.put(None)
        self._thread.join()

    def submit(self, item: Any) -> None:
        self._mailbox.put(lambda: self._engine.submit(item))

    def cancel(self, item_id: str) -> None:
        """Cancel an item, within the current step when that is a long prefill."""

        def command() -> Outputs:
            self._engine.cancel(item_id)
            return []

        self._mailbox.put(command)
        if self._abort is not None and self._engine.step_tokens_in_flight >= ABORT_WORTH_TOKENS:
            self._abort()

    def step_seconds(self, now: float) -> float:
        """Duration of the current step at monotonic time ``now``; 0 between steps."""
        began = self._step_began_at
        return now - began if began is not None else 0.0

    @property
    def is_alive(self) -> bool:
        return self._thread.is_alive()

    def _run(self) -> None:
        try:
            while self._take_commands():
                self._step_began_at = time.monotonic()
                outputs = self._engine.step()
                self._step_began_at = None
                if outputs:
                    self.outputs.put(outputs)
                if self._engine.is_idle:
                    self._engine.check_integrity()
        except BaseException as failure:
            self.failure = failure
            raise
        finally:
            self.outputs.put([])  # wakes a waiting reader

    def _take_commands(self) -> bool:
        """Run the commands in the mailbox, waiting for one when idle; False when told to stop."""
        while True:
            try:
                command = self._mailbox.get(block=self._engine.is_idle)
            except queue.Empty:
                return True
            if command is None:
                return False
            outputs = command()
            if outputs:
                self.outputs.put(outputs)
