"""The residency controller brings what is to what is wanted, and only one of them acts."""

import threading
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from auditlog.models import LogEntry
from django.db import connection
from django.utils import timezone

from inference.cluster.liveness import LivenessLock
from inference.controller import controller as controller_module
from inference.controller.controller import (
    ADVISORY_LOCK,
    FORGET_SECONDS,
    PRELOADED_SECONDS,
    Controller,
)
from inference.messages import Drain, Failed, Finished, Generation, Usage
from inference.queue import keys
from inference.queue.claims import LAST, SERVED, FencedError, HostClaims, Numbered
from metrics.prometheus.counters import field_of
from metrics.prometheus.names import LOADS
from models_registry.fleet import desired, observed
from models_registry.fleet import views as fleet_module
from models_registry.fleet.registrations import RELEASED_KEPT
from models_registry.fleet.views import HostFacts
from models_registry.models import Footprint, Model, ModelVersion, Node, Registration, Replica
from models_registry.plan.facts import Rules
from models_registry.plan.lifecycle import CALM_SECONDS, START_TIMEOUT_SECONDS, Action
from models_registry.plan.plan import Plan, Start, plan
from models_registry.plan.reasons import Reason
from tests.inference.controller.controlled_fleet import Fleet
from tests.models_registry.fleet_rows import a_node, a_version

State = Replica.State


def test_start_announces_the_replica_to_its_node(fleet: Fleet) -> None:
    replica = fleet.tick()
    assert replica.state == State.STARTING
    (announced,) = fleet.announced
    assert announced["function"] == "inference.replica.replica_task.host_replica"
    assert announced["args"] == (replica.pk, fleet.launch)
    assert announced["cluster"] == f"models@{replica.node.name}"
    assert announced["timeout"] == -1
    fleet.tick()
    assert len(fleet.announced) == 1


def test_start_is_counted_as_a_load_where_redis_takes_it(fleet: Fleet) -> None:
    client, field = fleet.world.redis, field_of(LOADS, fleet.replica.version.key)
    client.delete("brigade:metrics")
    fleet.tick()
    assert client.hget("brigade:metrics", field) == b"1"
    client.set("brigade:metrics", "no hash")
    fleet.become(State.STOPPED)
    assert fleet.tick().state == State.STARTING
    client.delete("brigade:metrics")


def test_a_replica_whose_file_is_not_there_is_not_started(fleet: Fleet) -> None:
    ModelVersion.objects.update(file_state=ModelVersion.FileState.FETCHING)
    assert fleet.tick().state == State.STOPPED
    assert fleet.announced == []


def test_an_announcement_that_nobody_takes_up_is_made_again(fleet: Fleet) -> None:
    fleet.tick()
    launch = fleet.launch
    fleet.age(START_TIMEOUT_SECONDS)
    fleet.tick()
    fleet.tick()
    assert [announced["args"][1] for announced in fleet.announced] == [launch, launch]
    assert fleet.replica.launch_id is not None
    assert observed.begin_launch(fleet.replica.pk, fleet.replica.launch_id, 1)
    # The second announcement arrives too, and finds the first taken up.
    assert observed.begin_launch(fleet.replica.pk, fleet.replica.launch_id, 2) is None


def test_an_announcement_taken_back_is_out_of_date(fleet: Fleet) -> None:
    fleet.tick()
    desired.unload(fleet.replica.version)
    assert fleet.tick().state == State.STOPPED
    assert fleet.replica.launch_id is not None
    assert observed.begin_launch(fleet.replica.pk, fleet.replica.launch_id, 1) is None


def test_a_replica_no_longer_wanted_is_drained(fleet: Fleet) -> None:
    claims = fleet.start()
    fleet.tick()
    assert claims.controls() == []
    desired.unload(fleet.replica.version)
    fleet.tick()
    assert claims.controls() == [Drain()]
    assert fleet.replica.state == State.DRAINING  # from now on its time runs
    claims.leave()
    fleet.become(State.STOPPED)
    assert fleet.tick().state == State.STOPPED
    assert len(fleet.announced) == 1


def test_a_silent_host_is_noted_dead_and_started_again_at_once(fleet: Fleet) -> None:
    claims = fleet.start()
    claims.leave()
    launch = fleet.launch
    assert fleet.tick().state == State.READY  # the heartbeat may be on its way
    fleet.age(fleet.world.settings.lease_seconds)
    replica = fleet.tick()
    assert (replica.state, replica.crashes) == (State.FAILED, 1)
    assert "death 1" in replica.reason
    assert fleet.tick().state == State.STARTING
    assert fleet.launch != launch
    assert len(fleet.announced) == 2


def test_the_lock_of_a_dead_host_tells_at_once_and_its_work_comes_back(fleet: Fleet) -> None:
    claims = fleet.start()
    item = fleet.world.enqueued()
    claims.claim(1, may_take_suspect=True)
    LivenessLock(fleet.folder, fleet.launch).hold()
    fleet.tick()
    assert (fleet.replica.state, fleet.world.waiting()) == (State.READY, [])
    lock_file = fleet.folder / f"host-{fleet.launch}.lock"
    lock_file.unlink()  # what the kernel does to the lock of a process that dies
    lock_file.touch()
    fleet.tick()
    assert (fleet.replica.state, fleet.world.waiting()) == (State.FAILED, [item.id])
    assert not lock_file.exists()


@pytest.mark.parametrize(("age", "state"), [(3.5, State.FAILED), (4.0, State.STARTING)])
def test_a_replica_that_keeps_dying_rests_before_its_next_start(
    fleet: Fleet, age: float, state: str
) -> None:
    fleet.become(State.FAILED, crashes=3)
    fleet.age(age)
    assert fleet.tick().state == state


def test_a_replica_that_has_served_long_is_forgiven(fleet: Fleet) -> None:
    claims = fleet.start()
    HostClaims(fleet.world.redis, fleet.launch, fleet.replica.version.key).heartbeat(
        ready=True, ttl_seconds=60, facts={}
    )
    fleet.become(State.READY, crashes=3)
    assert fleet.tick().crashes == 3
    fleet.age(CALM_SECONDS)
    assert fleet.tick().crashes == 3  # what it is asked may be what kills it
    refused, served = fleet.world.enqueued(), fleet.world.enqueued()
    claims.claim(2, may_take_suspect=True)
    claims.publish([Numbered(refused.id, 1, Failed("any", ""), mark=LAST)], 60)
    assert fleet.tick().crashes == 3
    claims.publish([Numbered(served.id, 1, Finished("stop", Usage(1, 1)), mark=SERVED)], 60)
    assert fleet.tick().crashes == 0
    assert fleet.replica.state == State.READY


def test_unload_of_a_failed_replica_lets_it_rest_for_good(fleet: Fleet) -> None:
    fleet.become(State.FAILED, crashes=2, reason="no memory")
    desired.unload(fleet.replica.version)
    replica = fleet.tick()
    assert (replica.state, replica.reason) == (State.STOPPED, "")
    fleet.tick()
    assert fleet.announced == []


def test_work_of_a_host_that_the_registry_does_not_know_comes_back_too(fleet: Fleet) -> None:
    stranger = fleet.world.host()
    item = fleet.world.enqueued()
    stranger.claim()
    stranger.die()
    fleet.tick()
    assert fleet.world.waiting() == [item.id]


def test_after_an_outage_hosts_get_time_to_renew_their_leases(fleet: Fleet) -> None:
    host = fleet.world.host()
    item = fleet.world.enqueued()
    host.claim()
    an_hour_ago = int(fleet.world.redis.time()[0]) - 3600
    fleet.world.redis.zadd(keys.HOSTS, {host.launch_id: an_hour_ago})
    fleet.controller.note_outage()
    fleet.now += fleet.world.settings.lease_seconds - 0.1
    fleet.tick()
    assert fleet.world.waiting() == []
    fleet.now += 0.2
    fleet.tick()
    assert fleet.world.waiting() == [item.id]


def test_after_an_outage_a_host_known_to_be_dead_gets_no_time(fleet: Fleet) -> None:
    host = fleet.world.host()
    item = fleet.world.enqueued()
    host.claim()
    host.die()
    fleet.controller.note_outage()
    fleet.tick()
    assert fleet.world.waiting() == [item.id]


def test_after_an_outage_a_silent_host_is_not_taken_for_dead_at_once(fleet: Fleet) -> None:
    fleet.start().leave()  # as in a Redis that lost the heartbeats
    lease_seconds = fleet.world.settings.lease_seconds
    fleet.age(lease_seconds)
    fleet.controller.note_outage()
    assert fleet.tick().state == State.READY
    fleet.now += lease_seconds
    assert fleet.tick().state == State.FAILED


def test_a_host_that_moves_on_meanwhile_is_not_overwritten(fleet: Fleet) -> None:
    fleet.tick()
    stale = Replica.objects.select_related("version__model", "node").get(pk=fleet.replica.pk)
    fleet.become(State.LOADING, process_id=77)
    fleet.controller._actions._set_state(stale, State.STOPPED)
    fleet.replica.refresh_from_db()
    assert (fleet.replica.state, fleet.replica.process_id) == (State.LOADING, 77)


def test_nodes_are_told_apart(fleet: Fleet) -> None:
    local = a_node()
    local.name = "local"
    local.save()
    fleet.show_node(local)
    desired.load(fleet.replica.version, local)
    fleet.tick()
    clusters = {announced["cluster"] for announced in fleet.announced}
    assert clusters == {f"models@{fleet.replica.node.name}", "models"}


def asked(fleet: Fleet, **fields: Any) -> tuple[ModelVersion, Generation]:
    """Another version, of the world's name, and a request for it that waits."""
    world = fleet.world
    slug, _, label = world.version_key.partition("@")
    version = a_version(label, Model.objects.create(slug=slug, name="Asked"), **fields)
    fleet.tick()
    return version, world.enqueued()


def test_a_request_for_an_absent_version_starts_it(fleet: Fleet) -> None:
    version, item = asked(fleet)
    fleet.tick()
    replica = Replica.objects.get(version=version)
    assert (replica.state, replica.desired, replica.on_demand) == ("starting", "resident", True)
    assert replica.needed_bytes["cpu"] > 1 << 20
    assert fleet.announced[-1]["args"] == (replica.pk, str(replica.launch_id))
    assert fleet.world.waiting() == [item.id]
    assert fleet.world.redis.hget(keys.LOADING, version.key) == b"0.000"


def test_a_request_for_what_never_fits_is_told_so(fleet: Fleet) -> None:
    Node.objects.update(device_budgets={"cpu": 1 << 20})
    _, item = asked(fleet)
    fleet.tick()
    assert fleet.world.waiting() == []
    ((_, failed),) = fleet.world.frames(item)
    assert isinstance(failed, Failed)
    assert failed.code == "model_unavailable"
    assert "may use 1.0 MiB for models" in failed.message


def wait(fleet: Fleet, seconds: float) -> None:
    """Let the controller look again and again for so long."""
    until = fleet.now + seconds
    while fleet.now < until:
        fleet.now += min(fleet.world.settings.lease_seconds, until - fleet.now)
        fleet.tick()


def test_what_waits_when_the_only_cluster_restarts_is_served_after_it(fleet: Fleet) -> None:
    version, item = asked(fleet)
    fleet.world.redis.delete(keys.node(fleet.replica.node.name))
    wait(fleet, Rules().node_patience_seconds - 1)
    assert fleet.world.waiting() == [item.id]
    assert not Replica.objects.filter(version=version).exists()
    fleet.show_node(fleet.replica.node)
    fleet.tick()
    assert Replica.objects.get(version=version).state == State.STARTING
    assert fleet.world.waiting() == [item.id]


def test_what_waits_for_a_cluster_that_stays_away_is_told_so_but_for_what_has_begun(
    fleet: Fleet,
) -> None:
    _, begun = asked(fleet)
    host = fleet.world.host()
    host.claim()
    host.say(begun, "par")
    host.die()
    fresh = fleet.world.enqueued()
    fleet.world.redis.delete(keys.node(fleet.replica.node.name))
    wait(fleet, Rules().node_patience_seconds)
    assert fleet.world.waiting() == [begun.id]
    ((_, failed),) = fleet.world.frames(fresh)
    assert isinstance(failed, Failed)
    assert "No node runs a models cluster" in failed.message
    assert not any(isinstance(frame, Failed) for _, frame in fleet.world.frames(begun))


def test_a_controller_that_takes_over_expects_the_nodes_back(fleet: Fleet) -> None:
    _, item = asked(fleet)
    fleet.world.redis.delete(keys.node(fleet.replica.node.name))
    fleet.now += 3600  # another one acted
    wait(fleet, Rules().node_patience_seconds - 1)
    assert fleet.world.waiting() == [item.id]


def test_a_request_that_waited_too_long_is_told_why(fleet: Fleet) -> None:
    Node.objects.update(max_replicas=1)  # and that place is taken
    _, item = asked(fleet)
    fleet.tick()
    assert fleet.world.waiting() == [item.id]
    fleet.world.redis.hset(keys.item(item.id), "deadline", 1.0)
    fleet.tick()
    ((_, failed),) = fleet.world.frames(item)
    assert isinstance(failed, Failed)
    assert failed.code == "queue_timeout"
    assert "1 of 1 hosts" in failed.message
    assert failed.retry_after_seconds == 10.0


def test_an_idle_replica_makes_room_and_its_keep_alive_is_forgotten(fleet: Fleet) -> None:
    claims = fleet.start()
    fleet.age(fleet.world.settings.minimum_dwell_seconds)
    fleet.world.redis.hset(keys.KEEP_ALIVE, fleet.replica.version.key, 90)
    Node.objects.update(max_replicas=1)
    claims.heartbeat(ready=True, ttl_seconds=60, facts={})
    asked(fleet)
    fleet.tick()
    assert fleet.replica.desired == Replica.Desired.ABSENT
    assert "make room for" in fleet.replica.reason
    assert Drain() in claims.controls()
    assert not fleet.world.redis.hexists(keys.KEEP_ALIVE, fleet.replica.version.key)


def test_a_host_that_holds_more_than_was_set_aside_is_believed(fleet: Fleet) -> None:
    claims = fleet.start()
    facts = {"private_before": 1 << 20, "private_bytes": (1 << 20) + (1 << 30)}
    claims.heartbeat(ready=True, ttl_seconds=60, facts=facts)
    fleet.tick()
    assert fleet.tick().needed_bytes["cpu"] >= 1 << 30
    assert Footprint.objects.get().private_bytes >= 1 << 30


def test_the_end_of_the_log_of_a_dead_host_is_told(fleet: Fleet) -> None:
    claims = fleet.start()
    claims.leave()
    (fleet.folder / f"host-{fleet.launch}.log").write_text("one\nthe last words\n")
    fleet.age(fleet.world.settings.lease_seconds)
    assert fleet.tick().reason.endswith("the last words")


def test_the_end_of_the_log_of_a_host_of_another_machine_is_told(fleet: Fleet) -> None:
    fleet.start().leave()
    fleet.age(fleet.world.settings.lease_seconds)
    fleet.world.redis.set(keys.host_log(fleet.launch), "the last words", ex=60)
    assert fleet.tick().reason.endswith("Its log ends:\nthe last words")


def test_where_a_log_may_be_is_told_when_nobody_has_read_it(fleet: Fleet) -> None:
    fleet.start().leave()
    fleet.age(fleet.world.settings.lease_seconds)
    launch = fleet.launch
    reason = fleet.tick().reason
    assert f"host-{launch}.log in the folder run" in reason
    assert reason.endswith(f"on {fleet.replica.node.name}.")


def test_requests_of_a_version_that_serves_are_not_refused(fleet: Fleet) -> None:
    _, item = asked(fleet)
    fleet.tick()
    version = ModelVersion.objects.get(model__name="Asked")
    # Another replica of it serves while there is never room for the second.
    Replica.objects.filter(version=version).update(state=State.FAILED)
    Replica.objects.create(version=version, node=fleet.replica.node, state=State.READY)
    drawn = Plan(reasons={version.key: Reason("It never fits.", is_final=True)})
    fleet.controller._tell(drawn, fleet.observe(HostFacts(is_alive=True)))
    assert fleet.world.waiting() == [item.id]


def test_a_version_deleted_meanwhile_does_not_stop_the_others(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = desired.load(a_version(), fleet.replica.node)
    wanted_versions = fleet_module.wanted_versions

    def versions(*args: Any) -> Any:
        gone.version.delete()
        return wanted_versions(*args)

    monkeypatch.setattr(fleet_module, "wanted_versions", versions)
    assert fleet.tick().state == State.STARTING


def test_a_version_deleted_between_plan_and_start_is_passed_over(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = desired.load(a_version(), fleet.replica.node)

    def plan_and_delete(*args: Any) -> Plan:
        drawn = plan(*args)
        ModelVersion.objects.filter(pk=gone.version.pk).delete()
        return drawn

    monkeypatch.setattr(controller_module, "plan", plan_and_delete)
    assert fleet.tick().state == State.STARTING
    assert len(fleet.announced) == 1


def test_ready_that_a_host_could_not_record_is_recorded_for_it(fleet: Fleet) -> None:
    fleet.start()
    fleet.become(State.LOADING, process_id=77)
    facts = {"resident_bytes": 123, "device": "GPU9", "notice": "Slow."}
    claims = HostClaims(fleet.world.redis, fleet.launch, fleet.replica.version.key)
    fleet.world.version_key = fleet.replica.version.key  # whose keys are removed after the test
    claims.heartbeat(ready=False, ttl_seconds=60, facts={})
    assert fleet.tick().state == State.LOADING
    claims.heartbeat(ready=True, ttl_seconds=60, facts=facts)
    replica = fleet.tick()
    assert (replica.state, replica.process_id, replica.load_fraction) == (State.READY, 77, 1.0)
    assert (replica.resident_bytes, replica.device, replica.reason) == (123, "GPU9", "Slow.")


def test_a_row_whose_process_still_runs_is_not_used_again(fleet: Fleet) -> None:
    fleet.start().leave()
    fleet.age(fleet.world.settings.lease_seconds)
    LivenessLock(fleet.folder, fleet.launch).hold()
    launch = fleet.launch
    Replica.objects.update(desired=Replica.Desired.ABSENT)
    assert fleet.tick().state == State.FAILED
    start = Start(
        fleet.replica.version.key, fleet.replica.node.name, "auto", {"cpu": 1}, None, on_demand=True
    )
    fleet.controller._carry_out(Plan(starts=[start]), fleet.observe(HostFacts(holds_memory=True)))
    fleet.replica.refresh_from_db()
    assert fleet.launch == launch
    assert Replica.objects.filter(version=fleet.replica.version).count() == 2


def test_a_host_that_does_not_leave_is_given_up_and_its_work_comes_back(fleet: Fleet) -> None:
    claims = fleet.start()
    item = fleet.world.enqueued()
    claims.claim(1, may_take_suspect=True)
    desired.unload(fleet.replica.version)
    fleet.tick()
    settings = fleet.world.settings
    longest_seconds = settings.request_timeout_seconds + settings.step_timeout_seconds
    fleet.age(longest_seconds - 1)
    fleet.tick()
    claims.heartbeat(ready=False, ttl_seconds=60, facts={})
    fleet.age(longest_seconds)
    fleet.tick()
    with pytest.raises(FencedError):  # nor can it come back to life
        claims.heartbeat(ready=False, ttl_seconds=60, facts={})
    assert fleet.tick().state == State.FAILED
    assert fleet.world.waiting() == [item.id]
    assert fleet.tick().state == State.STOPPED


def test_a_crash_loop_that_nobody_asks_for_any_more_stays_to_be_seen(fleet: Fleet) -> None:
    reason = "It died.\nIts log ends:\nthe last words"
    fleet.become(State.FAILED, crashes=3, reason=reason, on_demand=True)
    fleet.age(3600)
    for _ in range(3):
        fleet.tick()
    replica = fleet.replica
    assert (replica.desired, replica.state, replica.reason) == ("absent", State.FAILED, reason)
    assert fleet.announced == []
    desired.load(replica.version, replica.node)
    assert fleet.tick().state == State.STARTING
    assert (fleet.replica.reason, fleet.replica.crashes) == ("", 0)


def test_a_load_that_does_not_move_fails_and_its_requests_are_told(fleet: Fleet) -> None:
    version, item = asked(fleet)
    fleet.tick()
    replica = Replica.objects.get(version=version)
    assert replica.launch_id is not None
    observed.begin_launch(replica.pk, replica.launch_id, 77)
    claims = HostClaims(fleet.world.redis, fleet.world.adopt(str(replica.launch_id)), version.key)
    claims.heartbeat(ready=False, ttl_seconds=60, facts={})
    stall_seconds = fleet.world.settings.load_stall_seconds
    loading = Replica.objects.filter(pk=replica.pk)
    loading.update(state_since=timezone.now() - timedelta(seconds=stall_seconds))
    observed.note_progress(replica.launch_id, 0.37)
    fleet.tick()
    replica.refresh_from_db()
    assert replica.state == State.LOADING  # it had just moved
    loading.update(state_since=timezone.now() - timedelta(seconds=stall_seconds))
    fleet.controller.note_outage()
    fleet.tick()
    replica.refresh_from_db()
    assert replica.state == State.LOADING  # it may be that it could not say so
    fleet.now += fleet.world.settings.lease_seconds
    fleet.tick()
    replica.refresh_from_db()
    reason = (
        f"{version.key} could not be loaded: it stood at 37% for {stall_seconds:g} s "
        f"(INFERENCE_LOAD_STALL). See whether the disk of {replica.node.name} answers."
    )
    assert (replica.state, replica.load_failed, replica.reason) == (State.FAILED, True, reason)
    with pytest.raises(FencedError):
        claims.heartbeat(ready=False, ttl_seconds=60, facts={})
    observed.note_progress(replica.launch_id, 0.38)  # it moves after all: too late
    assert not observed.observe(replica.launch_id, State.READY)
    fleet.tick()
    replica.refresh_from_db()
    assert (replica.state, replica.load_fraction) == (State.FAILED, 0.37)
    ((_, failed),) = fleet.world.frames(item)
    assert isinstance(failed, Failed)
    assert (failed.code, failed.message) == ("model_unavailable", reason)
    assert failed.retry_after_seconds == pytest.approx(2.0, abs=0.5)


def test_a_load_that_ends_just_then_is_not_failed(fleet: Fleet) -> None:
    fleet.start()
    fleet.become(State.LOADING)
    stale = Replica.objects.select_related("version__model", "node").get()
    fleet.become(State.READY)
    fleet.controller._actions.act(stale, Action.FAIL_LOAD, HostFacts())
    assert fleet.tick().state == State.READY
    assert not fleet.world.redis.exists(keys.fenced(fleet.launch))


def test_a_silent_host_of_another_machine_keeps_its_memory_until_its_process_is_gone(
    fleet: Fleet,
) -> None:
    fleet.start().leave()
    node = fleet.replica.node
    fleet.show_node(node, fleet.launch)
    fleet.age(fleet.world.settings.lease_seconds)
    assert fleet.tick().state == State.FAILED
    launch = fleet.launch
    fleet.tick()
    assert (fleet.replica.state, fleet.launch) == (State.FAILED, launch)
    fleet.show_node(node)
    assert fleet.tick().state == State.STARTING
    assert fleet.launch != launch


def test_a_process_that_hangs_is_fenced_once(
    fleet: Fleet, caplog: pytest.LogCaptureFixture
) -> None:
    fleet.start().leave()
    fleet.show_node(fleet.replica.node, fleet.launch)
    fleet.become(State.FAILED)
    fleet.age(Rules().drain_patience_seconds)
    for _ in range(3):
        fleet.tick()
    assert fleet.world.redis.exists(keys.fenced(fleet.launch))
    assert caplog.text.count("does not end and is fenced") == 1
    assert caplog.text.count("died:") == 1


def test_a_host_holds_its_memory_for_as_long_as_its_node_shows_it(fleet: Fleet) -> None:
    fleet.start().leave()
    node = fleet.replica.node
    fleet.show_node(node, fleet.launch)
    fleet.become(State.STOPPED)
    assert fleet.tick().state == State.STOPPED
    fleet.show_node(node)
    assert fleet.tick().state == State.STARTING


def test_a_new_launch_removes_what_the_last_one_left(fleet: Fleet) -> None:
    fleet.start().leave()
    left = [fleet.folder / f"host-{fleet.launch}.{kind}" for kind in ("lock", "log")]
    fleet.become(State.FAILED)
    for path in left:
        path.touch()
    assert fleet.tick().state == State.STARTING
    assert not any(path.exists() for path in left)


def test_a_crash_loop_says_when_it_is_over(fleet: Fleet) -> None:
    version, item = asked(fleet)
    reason = "It ended unexpectedly 5 times."
    since = timezone.now() - timedelta(seconds=6)
    Replica.objects.create(
        version=version, node=fleet.replica.node, on_demand=True, needed_bytes={"cpu": 1},
        state=State.FAILED, crashes=5, reason=reason,
    )  # fmt: skip
    Replica.objects.filter(version=version).update(state_since=since)
    fleet.tick()
    ((_, failed),) = fleet.world.frames(item)
    assert isinstance(failed, Failed)
    assert failed.message == reason
    assert failed.retry_after_seconds == pytest.approx(10, abs=0.5)


def test_what_programs_register_is_brought_in(fleet: Fleet) -> None:
    version = a_version()
    Registration.objects.create(
        model_id="search", requester="module", version=version,
        requirement={"device": "auto", "preload_workers": 1},
    )  # fmt: skip
    fleet.tick()
    assert Replica.objects.get(version=version).state == State.STARTING


def test_what_was_released_long_ago_is_forgotten_in_nobodys_name(fleet: Fleet) -> None:
    fleet.tick()
    version = a_version()
    released = Registration.objects.create(
        model_id="old",
        requester="a",
        version=version,
        requirement={"name": version.key},
        released_at=timezone.now() - RELEASED_KEPT - timedelta(minutes=1),
    )
    fleet.now += FORGET_SECONDS
    fleet.tick()
    assert not Registration.objects.filter(pk=released.pk).exists()
    entry = LogEntry.objects.get_for_model(Registration).first()
    assert entry is not None
    assert (entry.action, entry.actor) == (LogEntry.Action.DELETE, None)


def test_what_the_settings_preload_follows_them(fleet: Fleet) -> None:
    first, second = (a_version(label, is_default=label == "v1") for label in ("v1", "v2"))
    ModelVersion.objects.filter(pk=second.pk).update(model=first.model)
    fleet.world.settings = replace(fleet.world.settings, preload_models=(first.model.slug,))
    fleet.controller = fleet.new_controller()
    fleet.tick()
    assert Replica.objects.filter(version=first).exists()
    Replica.objects.update(state=State.READY)
    first.model.versions.update(is_default=False)
    ModelVersion.objects.filter(pk=second.pk).update(is_default=True)
    fleet.now += PRELOADED_SECONDS
    fleet.tick()
    assert Replica.objects.filter(version=second).exists()


@pytest.mark.parametrize("ending", ["death", "unload"])
def test_keep_alive_is_forgotten_with_the_replica(fleet: Fleet, ending: str) -> None:
    claims = fleet.start()
    key = fleet.replica.version.key
    fleet.world.redis.hset(keys.KEEP_ALIVE, key, 90)
    if ending == "death":
        claims.leave()
        fleet.age(fleet.world.settings.lease_seconds)
    else:
        desired.unload(fleet.replica.version)
    fleet.tick()
    assert not fleet.world.redis.hexists(keys.KEEP_ALIVE, key)


@pytest.mark.parametrize(
    ("by_version", "by_request", "desired"), [(None, 0.0, "absent"), (0, -1.0, "resident")]
)
def test_keep_alive_of_a_request_decides_what_comes_after_it(
    fleet: Fleet, by_version: int | None, by_request: float, desired: str
) -> None:
    world = fleet.world
    slug, _, label = world.version_key.partition("@")
    a_version(label, Model.objects.create(slug=slug, name="M"), keep_alive_seconds=by_version)
    fleet.tick()
    item = world.generation()
    world.with_queue(lambda queue: queue.enqueue([item], keep_alive_seconds=by_request))
    fleet.tick()
    replica = Replica.objects.get(version__model__slug=slug)
    assert replica.launch_id is not None
    assert observed.begin_launch(replica.pk, replica.launch_id, 77)
    claims = HostClaims(world.redis, world.adopt(str(replica.launch_id)), world.version_key)
    claims.heartbeat(ready=True, ttl_seconds=60, facts={})
    observed.observe(replica.launch_id, State.READY)
    claims.claim(1, may_take_suspect=True)
    fleet.tick()
    replica.refresh_from_db()
    assert replica.desired == "resident"
    claims.publish([Numbered(item.id, 1, Failed("any", ""), mark=LAST)], 60)
    fleet.tick()
    replica.refresh_from_db()
    assert replica.desired == desired
    world.redis.hdel(keys.KEEP_ALIVE, world.version_key)


def test_what_a_person_loads_is_there_for_a_while_though_it_is_kept_for_no_time(
    fleet: Fleet,
) -> None:
    ModelVersion.objects.update(keep_alive_seconds=0)
    fleet.start()
    assert fleet.tick().desired == "resident"
    fleet.age(fleet.world.settings.minimum_dwell_seconds)
    assert fleet.tick().desired == "absent"


def test_what_holds_too_much_leaves_and_who_is_busy_after_the_maximum_wait(
    fleet: Fleet, caplog: pytest.LogCaptureFixture
) -> None:
    claims = fleet.start()
    world, settings = fleet.world, fleet.world.settings
    world.version_key = fleet.replica.version.key
    claims = HostClaims(world.redis, fleet.launch, world.version_key)
    claims.heartbeat(ready=True, ttl_seconds=60, facts={})
    world.enqueued()
    claims.claim(1, may_take_suspect=True)
    fleet.age(settings.minimum_dwell_seconds)
    Node.objects.update(device_budgets={"cpu": 1})
    fleet.tick()
    wait(fleet, settings.maximum_wait_seconds - 1)
    assert fleet.replica.desired == "resident"
    assert caplog.text.count("holds more than its budgets allow") == 1
    claims.heartbeat(ready=True, ttl_seconds=60, facts={})
    wait(fleet, 1)
    assert fleet.replica.desired == "absent"
    assert "exceeds its budget" in fleet.replica.reason


def test_a_replica_whose_last_use_was_lost_counts_as_used_now(fleet: Fleet) -> None:
    fleet.start()
    ModelVersion.objects.update(keep_alive_seconds=30)
    Replica.objects.update(on_demand=True)
    fleet.age(3600)
    fleet.world.redis.hdel(keys.USED, fleet.replica.version.key)
    assert fleet.tick().desired == Replica.Desired.RESIDENT


def _tick_elsewhere(controller: Controller) -> bool:
    """Tick on a database connection of its own, which ends with the thread."""
    acted: list[bool] = []

    def tick() -> None:
        try:
            acted.append(controller.tick())
        finally:
            connection.close()

    thread = threading.Thread(target=tick)
    thread.start()
    thread.join(10)
    return acted[0]


def test_only_one_controller_acts_until_it_is_gone(transactional_db: None, fleet: Fleet) -> None:
    second = fleet.new_controller()
    fleet.tick()
    fleet.tick()
    fleet.age(START_TIMEOUT_SECONDS)
    assert not _tick_elsewhere(second)
    assert len(fleet.announced) == 1
    with connection.cursor() as cursor:
        # Taken once however often it looked, so that one release is enough.
        cursor.execute("SELECT pg_advisory_unlock(%s)", [ADVISORY_LOCK])
    assert _tick_elsewhere(second)
    assert len(fleet.announced) == 2


def test_another_controller_takes_over_when_the_connection_is_lost(
    transactional_db: None, fleet: Fleet
) -> None:
    fleet.tick()
    second = fleet.new_controller()
    assert not _tick_elsewhere(second)
    connection.close()
    assert _tick_elsewhere(second)
