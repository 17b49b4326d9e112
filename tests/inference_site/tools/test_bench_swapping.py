"""Models that come and go while others are measured."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from aiohttp import web

from inference_site.tools.bench.client import open_session
from inference_site.tools.bench.load import Load
from inference_site.tools.bench.plan import PlanKey
from inference_site.tools.bench.runner import LiveCounts, LoadRun, RunResult
from inference_site.tools.bench.swapping import Swapping
from inference_site.tools.bench.target import Target
from tests.inference_site.tools.scripted_sse_server import ending, text

KEY = PlanKey(seed=1, nonce="n", part="single")
SWAPPED = ("x", "y")


@dataclass
class Fleet:
    """Loads what it is asked for, and keeps it for one more look after it is unloaded."""

    events: list[str] = field(default_factory=list)
    states: dict[str, str] = field(default_factory=dict)
    most_resident: int = 0
    after_loads: Callable[[int], None] = lambda _: None
    unload_status: int = 202
    show_status: int = 200
    base_url: str = ""

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Any completion; other models than "m" come into memory by it."""
        model = (await request.json())["model"]
        if model in SWAPPED:
            self.states[model] = "ready"
            self.events.append(f"load {model}")
            self.most_resident = max(self.most_resident, len(self._resident()))
            self.after_loads(sum(event.startswith("load") for event in self.events))
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(text("a") + ending(5, 1))
        return response

    async def unload(self, request: web.Request) -> web.Response:
        """Begin to drain."""
        model = request.match_info["model"]
        if self.states.get(model) == "ready":
            self.states[model] = "draining"
            self.events.append(f"unload {model}")
        return web.json_response({"error": {"message": "no"}}, status=self.unload_status)

    async def show(self, request: web.Request) -> web.Response:
        """The state, which moves on once it was seen."""
        model = request.match_info["model"]
        state = self.states.get(model, "stopped")
        if state == "draining":
            self.states[model] = "stopped"
        body = {"id": model, "replicas": [{"state": state}]}
        return web.json_response(body, status=self.show_status)

    def _resident(self) -> list[str]:
        return [model for model, state in self.states.items() if state != "stopped"]


@asynccontextmanager
async def serving(fleet: Fleet) -> AsyncIterator[Fleet]:
    """Serves it on a free loopback port."""
    app = web.Application()
    app.router.add_post("/v1/chat/completions", fleet.answer)
    app.router.add_post("/v1/completions", fleet.answer)
    app.router.add_post("/v1/models/{model}/unload", fleet.unload)
    app.router.add_get("/v1/models/{model}", fleet.show)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        fleet.base_url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield fleet
    finally:
        await runner.cleanup()


def swap(fleet: Fleet, loads: int) -> Swapping:
    """Swap until so many loads were seen, or something failed."""

    async def run() -> Swapping:
        async with serving(fleet), open_session(20) as session:
            swapping = Swapping(session, Target("t", fleet.base_url, "k", "m"), SWAPPED)
            task = asyncio.create_task(swapping.run())

            def stop_after(count: int) -> None:
                if count > loads:
                    task.cancel()

            fleet.after_loads = stop_after
            await asyncio.wait([task], timeout=20)
            return swapping

    return asyncio.run(run())


def test_models_take_turns_and_one_has_left_before_the_next_comes() -> None:
    fleet = Fleet()
    swapping = swap(fleet, loads=3)
    assert fleet.events[:6] == ["load x", "unload x", "load y", "unload y", "load x", "unload x"]
    assert fleet.most_resident == 1
    assert len(swapping.load_seconds) == 3
    assert swapping.failures == []


def test_a_key_that_may_not_unload_is_a_failure() -> None:
    (failure, *_) = swap(Fleet(unload_status=403), loads=1).failures
    assert failure.kind == "http 403"


def test_a_model_of_unknown_state_is_not_taken_for_absent() -> None:
    (failure, *_) = swap(Fleet(show_status=429), loads=1).failures
    assert failure.kind == "http 429"


def run_load(fleet: Fleet, **target: Any) -> RunResult:
    """Measure model m beside the others."""

    async def run() -> RunResult:
        load = Load(requests=40, concurrency=2, warmup=0, swapped_models=SWAPPED)
        async with serving(fleet), open_session(20) as session:
            where = replace(Target("t", fleet.base_url, "k", "m"), **target)
            return await asyncio.wait_for(
                LoadRun(session, where, load, KEY, LiveCounts()).run(), 20
            )

    return asyncio.run(run())


def test_a_run_leaves_no_swapped_model_in_memory() -> None:
    fleet = Fleet()
    result = run_load(fleet)
    assert len(result.observations) == 40
    assert result.background_failures == []
    assert "load x" in fleet.events
    assert set(fleet.states.values()) == {"stopped"}


def test_the_still_side_of_a_pair_swaps_nothing() -> None:
    fleet = Fleet()
    assert run_load(fleet, swaps_models=False).load_seconds == []
    assert fleet.events == []
