"""The thread around an engine: commands from other threads, frames out, failures seen."""

import threading
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor

import pytest

from inference.engine.backend import BackendError
from inference.engine.engine import Output
from inference.engine.engine_thread import ABORT_WORTH_TOKENS, EngineThread
from inference.messages import TERMINAL, Failed, Generation
from tests.inference.engine.fake_backend import FakeBackend
from tests.inference.engine.generations import (
    alone,
    by_id,
    ending,
    fake_engine,
    generation,
    text_of,
)
from tests.waiting import wait_until

PATIENCE_SECONDS = 20


class Served:
    """An engine thread over the fake, for as long as a test."""

    def __init__(self) -> None:
        self.engine, self.backend = fake_engine(kv_cells=512, max_sequences=8, step_tokens=256)
        self.thread = EngineThread(self.engine, self.backend.abort)

    def outputs_until_ended(self, *ids: str) -> list[Output]:
        """All that comes out until each of ``ids`` has ended."""
        open_ids, outputs = set(ids), []
        while open_ids:
            for output in self.thread.outputs.get(timeout=PATIENCE_SECONDS):
                outputs.append(output)
                if isinstance(output[1], TERMINAL):
                    open_ids.discard(output[0])
        return outputs


@pytest.fixture
def served() -> Generator[Served, None, None]:
    subject = Served()
    subject.thread.start()
    yield subject
    subject.thread.stop()


class Gate:
    """Holds a decode, the first unless told otherwise, until it is opened."""

    def __init__(self, backend: FakeBackend, decode_number: int = 1) -> None:
        self.entered = threading.Event()
        self.open = threading.Event()
        self._passes = decode_number - 1
        backend.while_decoding = self._wait

    def _wait(self) -> None:
        if self._passes:
            self._passes -= 1
            return
        self.entered.set()
        assert self.open.wait(PATIENCE_SECONDS)


def test_engine_thread_serves_many_threads(served):
    wanted = [generation(f"g{n}", f"{n} prompt", max_tokens=3 + n % 5) for n in range(40)]
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(served.thread.submit, wanted))
    frames = by_id(served.outputs_until_ended(*(item.id for item in wanted)))
    for item in wanted:
        assert text_of(frames[item.id]) == alone(item)
        assert ending(frames[item.id]).reason == "length"


def test_engine_thread_passes_on_what_fails_at_once(served):
    served.thread.submit(generation("big", "x" * 600))
    ((_, frame),) = served.outputs_until_ended("big")
    assert isinstance(frame, Failed)
    assert served.thread.is_alive


def test_engine_thread_cancels_between_two_tokens(served):
    gate = Gate(served.backend, decode_number=5)
    served.thread.submit(generation("endless", max_tokens=500))
    assert gate.entered.wait(PATIENCE_SECONDS)
    served.thread.cancel("endless")
    gate.open.set()
    end = ending([frame for _, frame in served.outputs_until_ended("endless")])
    assert (end.reason, end.usage.completion_tokens) == ("cancelled", 5)


@pytest.mark.parametrize(
    ("prompt_tokens", "completed"),
    [(ABORT_WORTH_TOKENS, 0), (ABORT_WORTH_TOKENS - 1, 1)],
)
def test_engine_thread_aborts_a_long_prefill_and_no_short_step(served, prompt_tokens, completed):
    gate = Gate(served.backend)
    served.thread.submit(generation("long", "x" * prompt_tokens))
    assert gate.entered.wait(PATIENCE_SECONDS)
    served.thread.cancel("long")
    gate.open.set()
    end = ending([frame for _, frame in served.outputs_until_ended("long")][-1:])
    assert (end.reason, end.usage.completion_tokens) == ("cancelled", completed)


def test_engine_thread_tells_how_long_a_step_has_run(served):
    assert served.thread.step_seconds(now=1e12) == 0.0
    gate = Gate(served.backend)
    served.thread.submit(generation())
    assert gate.entered.wait(PATIENCE_SECONDS)
    assert served.thread.step_seconds(now=1e12) > 1e11
    gate.open.set()
    served.outputs_until_ended("g")
    wait_until(lambda: served.thread.step_seconds(now=1e12) == 0.0)


def test_engine_thread_stops_after_the_step_in_progress(served):
    gate = Gate(served.backend)
    served.thread.submit(generation("endless", max_tokens=500))
    assert gate.entered.wait(PATIENCE_SECONDS)
    stopper = threading.Thread(target=served.thread.stop)
    stopper.start()
    wait_until(lambda: not served.thread._mailbox.empty())
    assert served.thread.is_alive
    gate.open.set()
    stopper.join(PATIENCE_SECONDS)
    assert not served.thread.is_alive
    assert served.thread.failure is None
    assert len(served.backend.decoded_batches) == 1


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_engine_thread_shows_what_ended_it(served):
    failure = BackendError("llama_decode returned -3")

    def fail() -> None:
        raise failure

    served.backend.while_decoding = fail
    served.thread.submit(generation())
    wait_until(lambda: not served.thread.is_alive)
    assert served.thread.failure is failure
    assert served.thread.outputs.get(timeout=PATIENCE_SECONDS) is not None


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_engine_thread_ends_when_cells_have_leaked(served):
    served.backend._stored[7] = [1]
    served.thread.submit(generation(max_tokens=1))
    wait_until(lambda: not served.thread.is_alive)
    assert "sequence 7 holds 1 cells, expected 0" in str(served.thread.failure)


def test_engine_thread_takes_a_cancel_that_overtakes_nothing(served):
    """Commands keep their order, so a cancel behind its submit always finds it."""
    gate = Gate(served.backend)
    wanted: list[Generation] = [generation(f"g{n}", max_tokens=400) for n in range(20)]
    for item in wanted:
        served.thread.submit(item)
        served.thread.cancel(item.id)
    gate.open.set()
    frames = by_id(served.outputs_until_ended(*(item.id for item in wanted)))
    assert {ending(frames[item.id]).reason for item in wanted} == {"cancelled"}
