"""A run is a run: what a host's stream and frames in memory have in common."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest

from inference.messages import Delta, Failed, Finished, Frame, Generation, RunHeader, Started, Usage
from inference.orders.order import Order
from inference.principal import Principal
from inference.runs.generate import generate
from inference.runs.memory_run import MemoryRun
from inference.runs.resume import resumed
from inference.runs.run import Run, header_of
from inference.runs.runtime import Runtime
from models_registry.models import ModelVersion
from tests.stack import ScriptedHost

ANN = Principal(7, "ann", frozenset())
ONE: list[list[Frame]] = [
    [Started(3), Delta("a", [1]), Delta("b", [2]), Finished("stop", Usage(3, 2, 1))]
]
TWO: list[list[Frame]] = [*ONE, [Started(3), Delta("c", [3]), Finished("length", Usage(3, 1))]]
FAILING: list[list[Frame]] = [[Started(3), Failed("host_lost", "It died.")]]
UNENDED: list[list[Frame]] = [[Started(3), Delta("a", [1])]]

Open = Callable[..., AbstractAsyncContextManager[Run]]


@pytest.fixture
async def order(service: Runtime, version: ModelVersion) -> Callable[[int], Awaitable[Order]]:
    async def make(n: int) -> Order:
        spec = await service.resolver.resolve(version.model.slug, "text_generation")
        return Order("chat", spec, [[1, 2, 3]], n=n, max_tokens=9)

    return make


@pytest.fixture(params=["host", "memory"])
def opened(
    request: pytest.FixtureRequest, order: Callable[[int], Awaitable[Order]], service: Runtime
) -> Open:
    """Open a run of given frames per choice, after given frames; not stopped at the end."""
    host: ScriptedHost = request.getfixturevalue("scripted_host")

    @asynccontextmanager
    async def from_host(
        choices: list[list[Frame]], after: Sequence[int] = ()
    ) -> AsyncIterator[Run]:
        async with generate(await order(len(choices)), ANN) as run:
            for _ in choices:
                item = host.claim()
                assert isinstance(item, Generation)
                host.publish(item, choices[int(item.id.rpartition(".")[2])])
            async with resumed(ANN, run.header.id, after) as again:
                yield again
            _end(host, run.header, choices)

    @asynccontextmanager
    async def from_memory(
        choices: list[list[Frame]], after: Sequence[int] = ()
    ) -> AsyncIterator[Run]:
        header = header_of(await order(len(choices)), ANN)
        last = Finished("stop", Usage(3, 9))
        ended = [own if _is_ended(own) else [*own, last] for own in choices]
        yield MemoryRun(
            header, [(choice, f) for choice, own in enumerate(ended) for f in own], after
        )

    return from_host if request.param == "host" else from_memory


def _is_ended(frames: list[Frame]) -> bool:
    return isinstance(frames[-1], (Finished, Failed))


def _end(host: ScriptedHost, header: RunHeader, choices: list[list[Frame]]) -> None:
    """Answer what is still open, as a host does that was told to stop."""
    for item_id, frames in zip(header.item_ids, choices, strict=True):
        if not _is_ended(frames):
            item = Generation(item_id, header.version_key, [], 1)
            host.publish(item, [Finished("cancelled", Usage(3, 1))], after=len(frames))


async def frames_of(run: Run) -> list[tuple[int, Frame]]:
    return [entry async for entry in run.frames()]


async def test_run_gives_all_frames_of_each_choice_in_order(opened: Open):
    async with opened(TWO) as run:
        seen = await frames_of(run)
        for choice, frames in enumerate(TWO):
            assert [frame for place, frame in seen if place == choice] == frames
        assert run.is_over
        assert run.positions == [4, 3]
        assert run.usage == Usage(3, 3, 1)


async def test_run_goes_on_after_the_frames_that_were_seen(opened: Open):
    async with opened(ONE, after=[2]) as run:
        assert await frames_of(run) == [(0, frame) for frame in ONE[0][2:]]
        assert run.positions == [4]


async def test_run_that_was_read_to_its_end_is_over(opened: Open):
    async with opened(ONE, after=[4]) as run:
        assert run.is_over
        assert await frames_of(run) == []
        assert run.usage == Usage(3, 2, 1)


async def test_run_does_not_lose_the_frame_that_was_peeked_at(opened: Open):
    async with opened(ONE) as run:
        assert await run.peek() == await run.peek() == Started(3)
        assert run.positions == [0]
        assert await run.next() == (0, Started(3))
        assert run.positions == [1]
        assert await run.next() == (0, Delta("a", [1]))


async def test_run_gives_a_failure_as_a_frame(opened: Open):
    async with opened(FAILING) as run:
        assert await frames_of(run) == [(0, frame) for frame in FAILING[0]]
        assert run.is_over
        assert run.choices[0].failed is not None


async def test_run_is_stopped_once(opened: Open):
    async with opened(UNENDED) as run:
        for frame in UNENDED[0]:
            assert await run.next() == (0, frame)
        assert await run.stop()


async def test_run_that_is_over_is_not_stopped(opened: Open):
    async with opened(ONE) as run:
        await frames_of(run)
        assert not await run.stop()


async def test_stopped_memory_run_ends_with_the_tokens_that_were_given(
    order: Callable[[int], Awaitable[Order]],
):
    run = MemoryRun(header_of(await order(1), ANN), [(0, frame) for frame in ONE[0]])
    await run.next()
    await run.next()
    assert await run.stop()
    assert await frames_of(run) == [(0, Finished("cancelled", Usage(3, 1, 1)))]
    assert run.is_over
    assert not await run.stop()
