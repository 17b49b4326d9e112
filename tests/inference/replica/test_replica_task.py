"""The task that is a replica, from announcement to its end."""

import os
import threading
import uuid
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from inference.cluster.liveness import LivenessLock
from inference.engine.backend import ModelLoadError
from inference.engine.config import EngineConfig
from inference.engine.engine import Engine
from inference.messages import Drain, encode
from inference.queue import keys
from inference.replica import replica_task
from inference.replica.load_priority import LASTING_NICENESS, SHARE_NICENESS
from inference.replica.loading import IdleOnly, Loaded
from inference.replica.replica_task import Launch, host_replica
from models_registry.fleet import desired, observed
from models_registry.gguf.kept import header_facts
from models_registry.gguf.reader import read_header
from models_registry.models import ModelVersion, Replica
from models_registry.rules.spec import ModelSpec
from tests.inference.engine.fake_backend import FakeBackend
from tests.inference.queue.world import QueueWorld
from tests.models_registry.fleet_rows import a_node, a_version
from tests.models_registry.gguf_samples import write_llama

# The task drops connections that a transaction of the test would be on.
pytestmark = pytest.mark.django_db(transaction=True)
State = Replica.State
Load = Callable[[], Loaded]


@pytest.fixture
def models_dir(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A models directory with the file of the replica's version."""
    folder = tmp_path_factory.mktemp("models")
    write_llama(folder / "a.gguf")
    settings = replace(replica_task.inference_settings(), models_dir=folder)
    monkeypatch.setattr(replica_task, "inference_settings", lambda: settings)
    return folder


@pytest.fixture
def replica(
    world: QueueWorld, tmp_path: Path, models_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> Replica:
    """A replica whose start is announced."""
    monkeypatch.setattr(replica_task, "liveness_folder", lambda: tmp_path)
    header = header_facts(read_header(models_dir / "a.gguf"))
    replica = desired.load(a_version(header=header), a_node())
    replica.launch_id, replica.state = uuid.uuid4(), State.STARTING
    replica.save()
    world.version_key = replica.version.key  # whose keys are removed after the test
    world.adopt(str(replica.launch_id))
    return replica


@pytest.fixture
def load_by(monkeypatch: pytest.MonkeyPatch) -> Callable[[Load], None]:
    """Decide what loading the model does."""

    def decide(load: Load) -> None:
        monkeypatch.setattr(replica_task, "load_engine", lambda *_: load())

    return decide


def fake_model(close: Callable[[], None] = lambda: None) -> Loaded:
    """A model without weights."""
    engine = Engine(FakeBackend(kv_cells=256), EngineConfig(kv_cells=256, max_sequences=2))
    return Loaded(engine, 2, None, "GPU9 (test)", "There is no cuda here: on the CPU.", close)


def run(replica: Replica) -> str:
    """Be the replica; it is refreshed afterwards."""
    try:
        return host_replica(replica.pk, str(replica.launch_id))
    finally:
        replica.refresh_from_db()


def test_a_replica_serves_until_it_is_drained(
    world: QueueWorld, replica: Replica, tmp_path: Path, load_by: Callable[[Load], None]
) -> None:
    launch = str(replica.launch_id)
    seen: list[tuple[str, bool]] = []

    def load() -> Loaded:
        lock = LivenessLock(tmp_path, launch)
        seen.append(("held", (tmp_path / f"host-{launch}.lock").exists()))
        seen.append(("abandoned", lock.is_abandoned()))
        world.redis.rpush(keys.control(launch), encode(Drain()))
        return fake_model()

    load_by(load)
    assert run(replica) == "drained"
    assert seen == [("held", True), ("abandoned", False)]
    assert (replica.state, replica.process_id, replica.reason) == (State.STOPPED, None, "")
    assert list(tmp_path.iterdir()) == []
    assert not world.redis.exists(*world.keys_of_launch(launch))
    assert world.redis.zscore(keys.HOSTS, launch) is None


def test_a_replica_says_what_it_computes_on(
    world: QueueWorld,
    replica: Replica,
    monkeypatch: pytest.MonkeyPatch,
    load_by: Callable[[Load], None],
) -> None:
    ready: list[dict[str, Any]] = []
    real = Launch._observe

    def observe(launch: Launch, state: str, **fields: Any) -> None:
        real(launch, state, **fields)
        ready.extend(Replica.objects.filter(state=State.READY).values("device", "reason"))

    def load() -> Loaded:
        world.redis.rpush(keys.control(str(replica.launch_id)), encode(Drain()))
        return fake_model()

    monkeypatch.setattr(Launch, "_observe", observe)
    load_by(load)
    assert run(replica) == "drained"
    assert ready == [{"device": "GPU9 (test)", "reason": "There is no cuda here: on the CPU."}]
    assert replica.device == ""


def test_a_replica_frees_its_memory_before_it_says_so(
    world: QueueWorld, replica: Replica, load_by: Callable[[Load], None]
) -> None:
    states: list[str] = []

    def load() -> Loaded:
        world.redis.rpush(keys.control(str(replica.launch_id)), encode(Drain()))
        return fake_model(
            close=lambda: states.extend(Replica.objects.values_list("state", flat=True))
        )

    load_by(load)
    assert run(replica) == "drained"
    assert states == [State.DRAINING]
    assert replica.state == State.STOPPED


@pytest.mark.parametrize(("serves", "crashes"), [(True, 0), (False, 2)])
def test_an_orderly_end_makes_up_for_deaths_only_after_service(
    world: QueueWorld,
    replica: Replica,
    load_by: Callable[[Load], None],
    serves: bool,
    crashes: int,
) -> None:
    Replica.objects.update(crashes=2)

    def drain() -> None:
        world.redis.rpush(keys.control(str(replica.launch_id)), encode(Drain()))

    def load() -> Loaded:
        model = fake_model()
        if serves:
            assert isinstance(model.engine, Engine)
            assert isinstance(model.engine.backend, FakeBackend)
            model.engine.backend.while_decoding = drain
            world.redis.sadd(keys.LOADABLE, world.version_key)
            world.enqueued(max_tokens=3)
            world.redis.srem(keys.LOADABLE, world.version_key)
        else:
            drain()
        return model

    load_by(load)
    assert run(replica) == "drained"
    assert replica.crashes == crashes


def test_a_load_runs_on_idle_cores(
    world: QueueWorld, replica: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    priorities: list[tuple[int, int]] = []

    def load(_spec: object, _settings: object, _progress: object, idle_only: IdleOnly) -> Loaded:
        with idle_only():
            note()
        world.redis.rpush(keys.control(str(replica.launch_id)), encode(Drain()))
        return fake_model()

    def note() -> None:
        for thread in (threading.get_native_id(), os.getpid()):
            priorities.append(
                (os.sched_getscheduler(thread), os.getpriority(os.PRIO_PROCESS, thread))
            )

    monkeypatch.setattr(replica_task, "load_engine", load)
    assert run(replica) == "drained"
    loading, main = priorities
    assert main == (os.SCHED_OTHER, 0)
    assert loading in (
        (os.SCHED_IDLE, SHARE_NICENESS),
        (os.SCHED_OTHER, LASTING_NICENESS),
    )


def test_a_launch_that_is_out_of_date_ends_at_once(
    world: QueueWorld, replica: Replica, tmp_path: Path, load_by: Callable[[Load], None]
) -> None:
    load_by(lambda: pytest.fail("must not load"))
    replica.launch_id = world.adopt(str(uuid.uuid4()))
    assert run(replica) == "out of date"
    assert replica.state == State.STARTING
    assert list(tmp_path.iterdir()) == []


def test_a_model_that_cannot_be_loaded_says_why(
    world: QueueWorld, replica: Replica, tmp_path: Path, load_by: Callable[[Load], None]
) -> None:
    def load() -> Loaded:
        raise ModelLoadError("no tensor named head")

    load_by(load)
    assert run(replica) == "failed to load"
    reason = f"{replica.version.key} could not be loaded: no tensor named head"
    assert (replica.state, replica.reason) == (State.FAILED, reason)
    assert replica.crashes == 1
    assert replica.load_failed
    assert list(tmp_path.iterdir()) == []
    assert world.redis.zscore(keys.HOSTS, str(replica.launch_id)) is None


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda path: path.unlink(), "a.gguf does not exist on this machine"),
        (lambda path: path.write_bytes(b"GGUF?"), "was changed since it was checked"),
    ],
)
def test_a_file_that_is_not_as_it_was_checked_is_not_loaded(
    world: QueueWorld,
    replica: Replica,
    models_dir: Path,
    load_by: Callable[[Load], None],
    spoil: Callable[[Path], object],
    reason: str,
) -> None:
    load_by(lambda: pytest.fail("must not load"))
    spoil(models_dir / "a.gguf")
    assert run(replica) == "failed to load"
    assert f"On {replica.node.name}: " in replica.reason
    assert reason in replica.reason


@pytest.mark.parametrize("is_there", [True, False])
def test_a_draft_whose_file_is_missing_is_left_out(
    world: QueueWorld,
    replica: Replica,
    models_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
    is_there: bool,
) -> None:
    draft = a_version("draft", file_name="draft.gguf", header=replica.version.header)
    ModelVersion.objects.filter(pk=replica.version_id).update(draft_model=draft)
    if is_there:
        write_llama(models_dir / "draft.gguf")
    drafts: list[str | None] = []

    def load(spec: ModelSpec, *_: object) -> Loaded:
        drafts.append(spec.draft_path)
        world.redis.rpush(keys.control(str(replica.launch_id)), encode(Drain()))
        return fake_model()

    monkeypatch.setattr(replica_task, "load_engine", load)
    assert run(replica) == "drained"
    assert drafts == [str(models_dir / "draft.gguf") if is_there else None]


def test_a_load_says_how_far_it_is(
    world: QueueWorld, replica: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = replace(replica_task.inference_settings(), heartbeat_seconds=0.01)
    monkeypatch.setattr(replica_task, "inference_settings", lambda: settings)
    seen: list[float] = []
    half_way = threading.Event()
    real = observed.note_progress

    def note_progress(launch: uuid.UUID, load_fraction: float) -> None:
        real(launch, load_fraction)
        seen.extend(Replica.objects.values_list("load_fraction", flat=True))
        if seen[-1] == 0.5:
            half_way.set()

    def load(
        _spec: object, _settings: object, on_progress: Callable[[float], None], _way: object
    ) -> Loaded:
        on_progress(0.5)
        assert half_way.wait(10)
        world.redis.rpush(keys.control(str(replica.launch_id)), encode(Drain()))
        return fake_model()

    monkeypatch.setattr(observed, "note_progress", note_progress)
    monkeypatch.setattr(replica_task, "load_engine", load)
    assert run(replica) == "drained"
    assert seen[-1] == 0.5


def test_a_load_that_reads_without_a_word_is_seen_to_move(
    world: QueueWorld, replica: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = replace(replica_task.inference_settings(), heartbeat_seconds=0.01)
    monkeypatch.setattr(replica_task, "inference_settings", lambda: settings)
    moves = threading.Semaphore(0)
    monkeypatch.setattr(observed, "note_progress", lambda *_: moves.release())

    def load(_spec: object, _settings: object, _on_progress: object, _way: object) -> Loaded:
        assert moves.acquire(timeout=10)  # what the process had before
        read = b"x" * (8 * replica_task.PROGRESS_BYTES)
        assert moves.acquire(timeout=10)
        world.redis.rpush(keys.control(str(replica.launch_id)), encode(Drain()))
        assert read
        return fake_model()

    monkeypatch.setattr(replica_task, "load_engine", load)
    assert run(replica) == "drained"


def test_a_crash_while_loading_leaves_an_abandoned_lock(
    replica: Replica, tmp_path: Path, load_by: Callable[[Load], None]
) -> None:
    def load() -> Loaded:
        raise MemoryError

    load_by(load)
    with pytest.raises(MemoryError):
        run(replica)
    assert replica.state == State.LOADING
    assert (tmp_path / f"host-{replica.launch_id}.lock").exists()


@pytest.mark.parametrize("before", ["_load", "_host_config"])
def test_a_fenced_replica_does_not_write_for_its_successor(
    world: QueueWorld,
    replica: Replica,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    load_by: Callable[[Load], None],
    before: str,
) -> None:
    launch = str(replica.launch_id)

    def give_up_and_go_on(*args: Any) -> Any:
        world.redis.set(keys.fenced(launch), 1)
        Replica.objects.filter(pk=replica.pk).update(launch_id=uuid.uuid4(), state=State.STARTING)
        return real(*args)

    load_by(fake_model)
    real = getattr(Launch, before)
    monkeypatch.setattr(Launch, before, give_up_and_go_on)
    assert run(replica) == "fenced"
    assert replica.state == State.STARTING
    assert LivenessLock(tmp_path, launch).is_held()  # until the process is gone
