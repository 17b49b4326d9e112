"""One experiment: a single run, or runs of two servers in pairs."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager, AsyncExitStack
from dataclasses import dataclass, field, replace

import aiohttp
import psutil

from inference_site.tools.bench import machine
from inference_site.tools.bench.client import open_session
from inference_site.tools.bench.comparison import ComparedMetric, compare, peer_goes_first
from inference_site.tools.bench.load import Load
from inference_site.tools.bench.peer_server import LlamaServer, PeerOptions, running_llama_server
from inference_site.tools.bench.plan import PlanKey
from inference_site.tools.bench.runner import LiveCounts, LoadRun
from inference_site.tools.bench.summary import Summary, summarise
from inference_site.tools.bench.target import Target

# Before each run the machine's other load is measured for this long, with both servers idle.
QUIET_SECONDS = 1.0

# Shows a run while it runs: title, number of requests, counts.
Watch = Callable[[str, int, LiveCounts], AbstractContextManager[None]]


@dataclass(frozen=True, slots=True)
class Peer:
    """The other server of a comparison: already running, or to be started.

    Args:
        target: its address; filled in later for a server to be started.
        options: how to start llama-server; None for a server that runs already.
    """

    target: Target
    options: PeerOptions | None = None


@dataclass(frozen=True, slots=True)
class Pair:
    """The two runs of a pair; either may be the first."""

    ours: Summary
    peer: Summary


@dataclass(frozen=True, slots=True)
class PeerFacts:
    """Name, version and options of the peer, for the report."""

    name: str
    base_url: str
    options: PeerOptions | None = None
    version: str = ""
    system_info: str = ""
    unused_cpu_features: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Experiment:
    """The parameters of an experiment.

    Args:
        target: our server.
        load: the requests.
        seed: of prompts and arrivals.
        nonce: new for each invocation, so that prompts are cold.
        timeout_seconds: the longest duration of a request.
        peer: the other server, or None.
        pairs: number of pairs with a peer.
    """

    target: Target
    load: Load
    seed: int
    nonce: str
    timeout_seconds: float
    peer: Peer | None = None
    pairs: int = 1


@dataclass(frozen=True, slots=True)
class Outcome:
    """All results of an experiment, as ``--json`` writes them."""

    load: Load
    base_url: str
    model: str
    seed: int
    nonce: str
    run: Summary | None = None
    peer: PeerFacts | None = None
    pairs: list[Pair] = field(default_factory=list)
    comparison: list[ComparedMetric] = field(default_factory=list)

    @property
    def runs(self) -> list[Summary]:
        """All runs, not ordered by time."""
        alone = [self.run] if self.run is not None else []
        return alone + [run for pair in self.pairs for run in (pair.ours, pair.peer)]

    @property
    def failure_count(self) -> int:
        """Number of failed requests, including warm-up and background."""
        return sum(failure.count for run in self.runs for failure in run.failures)


async def perform(experiment: Experiment, watch: Watch) -> Outcome:
    """Run an experiment.

    Args:
        experiment: its parameters.
        watch: shows each run.

    Raises:
        PeerError: llama-server could not be started.
    """
    outcome = Outcome(
        experiment.load,
        experiment.target.base_url,
        experiment.target.model,
        experiment.seed,
        experiment.nonce,
    )
    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(open_session(experiment.timeout_seconds))
        if experiment.peer is None:
            title = experiment.target.name
            run = await _run(session, experiment, experiment.target, "single", title, watch)
            return replace(outcome, run=run)
        server = None
        target = experiment.peer.target
        if experiment.peer.options is not None:
            starting = running_llama_server(experiment.peer.options)
            server = await stack.enter_async_context(starting)
            target = replace(target, base_url=server.address)
        pairs = await _run_pairs(session, experiment, target, server, watch)
    return replace(
        outcome,
        peer=_facts(experiment.peer, target, server),
        pairs=pairs,
        comparison=compare([(pair.ours, pair.peer) for pair in pairs]),
    )


async def _run_pairs(
    session: aiohttp.ClientSession,
    experiment: Experiment,
    peer: Target,
    server: LlamaServer | None,
    watch: Watch,
) -> list[Pair]:
    """Run all pairs; both sides of a pair get the same prompts."""
    pairs = []
    for number in range(experiment.pairs):
        order = [experiment.target, peer]
        if peer_goes_first(number):
            order.reverse()
        runs: dict[str, Summary] = {}
        for target in order:
            part = f"pair-{number}"
            if peer.url("") == experiment.target.url(""):
                part += f"-{target.name}"  # the same server twice: cold prompts for both runs
            idle_pid = server.pid if server is not None and target is not peer else None
            title = f"pair {number + 1} of {experiment.pairs}: {target.name}"
            runs[target.name] = await _run(
                session, experiment, target, part, title, watch, idle_pid, warm_up=number == 0
            )
        pairs.append(Pair(runs[experiment.target.name], runs[peer.name]))
    return pairs


async def _run(
    session: aiohttp.ClientSession,
    experiment: Experiment,
    target: Target,
    part: str,
    title: str,
    watch: Watch,
    idle_pid: int | None = None,
    *,
    warm_up: bool = True,
) -> Summary:
    """Run once; measure the machine before the run and the idle peer during it."""
    psutil.cpu_percent()
    await asyncio.sleep(QUIET_SECONDS)
    busy_ratio = psutil.cpu_percent() / 100
    counts = LiveCounts()
    key = PlanKey(experiment.seed, experiment.nonce, part)
    idle_before = machine.process_cpu_seconds(idle_pid) if idle_pid is not None else None
    with watch(title, experiment.load.requests, counts):
        load_run = LoadRun(session, target, experiment.load, key, counts)
        result = await load_run.run(warm_up=warm_up)
    idle_after = machine.process_cpu_seconds(idle_pid) if idle_pid is not None else None
    idle = idle_after - idle_before if idle_after is not None and idle_before is not None else None
    return summarise(
        target.name,
        experiment.load,
        result,
        machine_busy_before_ratio=busy_ratio,
        peer_idle_cpu_seconds=idle,
    )


def _facts(peer: Peer, target: Target, server: LlamaServer | None) -> PeerFacts:
    if server is None:
        return PeerFacts(peer.target.name, target.base_url)
    return PeerFacts(
        peer.target.name,
        target.base_url,
        peer.options,
        server.version,
        server.system_info,
        machine.unused_cpu_features(server.system_info),
    )
