"""The fleet's rows as the plan sees them, with what they need and where that can be."""

import math
import uuid
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from auditlog.models import LogEntry
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from models_registry.errors import RegistryError
from models_registry.fleet import desired, observed
from models_registry.fleet import views as fleet
from models_registry.fleet.footprints import (
    MARGIN,
    estimate_of,
    mapped_bytes,
    measured_footprints,
    note_footprint,
    options_of,
    placements_among,
    placements_of,
)
from models_registry.fleet.live_figures import LiveFigures
from models_registry.fleet.nodes import (
    DeviceFacts,
    NodeFacts,
    fault_of,
    pick_node,
    register_this_node,
    usable_memory_bytes,
)
from models_registry.fleet.preloading import configured_versions, forget_other_wishes
from models_registry.fleet.registrations import Claim
from models_registry.fleet.repacking import COPYING_FEATURES
from models_registry.fleet.snapshot import take_snapshot, version_keys
from models_registry.fleet.views import Demand, HostFacts, Wishes
from models_registry.gguf.kept import header_facts
from models_registry.models import Footprint, Model, ModelVersion, Node, Preset, Replica
from models_registry.plan.facts import VersionView
from tests.models_registry.conftest import Show
from tests.models_registry.fleet_rows import TINY, a_node, a_version, views
from tests.models_registry.gguf_samples import write_llama

pytestmark = pytest.mark.django_db
MIB = 1 << 20


def view_of(version: ModelVersion, demand: Demand | None = None, **options: Any) -> VersionView:
    """A version as the plan sees it."""
    wishes = Wishes({version.key: demand or Demand(queued=1)}, **options.pop("wishes", {}))
    return views(wishes, **options)[version.key]


def test_a_version_is_foreseen_until_somebody_asks_for_it() -> None:
    version = a_version()
    wishes = {"foreseen": {version.key: 60.0}}
    assert view_of(version, Demand(), wishes=wishes).foreseen
    assert view_of(version, Demand(idle_seconds=61.0), wishes=wishes).foreseen
    assert not view_of(version, Demand(idle_seconds=59.0), wishes=wishes).foreseen
    assert not view_of(version, Demand(queued=1)).foreseen


def test_a_version_is_looked_at_when_somebody_wants_it() -> None:
    version = a_version()
    a_version()
    assert views(Wishes()) == {}
    assert view_of(version).queued == 1
    assert list(views(Wishes(preloaded=[version.key]))) == [version.key]
    assert list(views(Wishes(claims={version.pk: Claim(preload_workers=1)}))) == [version.key]
    ModelVersion.objects.filter(pk=version.pk).update(pinned=True)
    assert list(views(Wishes())) == [version.key]
    ModelVersion.objects.filter(pk=version.pk).update(pinned=False, preload_workers=1)
    assert list(views(Wishes())) == [version.key]


def test_a_version_is_looked_at_when_it_has_a_replica() -> None:
    replica = desired.load(a_version(), a_node())
    a_version()
    desired.unload(replica.version)
    assert list(views(Wishes())) == [replica.version.key]


def test_of_a_version_that_nobody_wants_little_is_read() -> None:
    a_version(kv_bytes_per_token=1)
    with CaptureQueriesContext(connection) as queries:
        assert views(Wishes()) == {}
    assert not any('"chat_template"' in query["sql"] for query in queries)


def test_more_versions_take_no_more_queries() -> None:
    counts = []
    for _ in range(2):
        desired.load(a_version(draft_model=a_version()), a_node())
        with CaptureQueriesContext(connection) as queries:
            seen = views(Wishes())
            assert all(view.placements for view in seen.values())
            counts.append(len(queries))
    assert len(seen) == 2
    assert counts[0] == counts[1]


@pytest.mark.parametrize(
    ("by_request", "by_version", "by_setting", "seconds"),
    [
        (None, None, -1, math.inf),
        (None, None, 60, 60),
        (None, 30, 60, 30),
        (None, -1, 60, math.inf),
        (5.0, 30, 60, 5),
        (0.0, 30, 60, 0),
        (-1.0, 30, 60, math.inf),
    ],
)
def test_keep_alive_of_the_request_goes_before_that_of_the_version(
    by_request: float | None, by_version: int | None, by_setting: float, seconds: float
) -> None:
    version = a_version(keep_alive_seconds=by_version)
    view = view_of(
        version,
        Demand(queued=1, keep_alive_seconds=by_request),
        default_keep_alive_seconds=by_setting,
    )
    assert view.keep_alive_seconds == seconds


def test_embedding_models_stay_unless_an_administrator_says_otherwise() -> None:
    model = Model.objects.create(slug="embed", name="Embed", type=Model.Type.EMBEDDING)
    version = a_version(model=model)
    demand = Demand(queued=1, keep_alive_seconds=0)
    assert view_of(version, demand, default_keep_alive_seconds=5).keep_alive_seconds == math.inf
    ModelVersion.objects.update(keep_alive_seconds=7)
    assert view_of(version, demand).keep_alive_seconds == 7


def test_a_version_without_its_file_says_what_to_do() -> None:
    view = view_of(a_version(file_state=ModelVersion.FileState.ABSENT))
    assert "fetch_model" in view.unusable
    assert view.placements == ()
    assert take_snapshot().loadable_keys == set()


def test_a_file_that_is_on_another_machine_is_left_alone() -> None:
    version = a_version(header=None)
    assert "was not read by this release" in view_of(version).unusable
    version.refresh_from_db()
    assert (version.file_state, version.file_error) == (ModelVersion.FileState.READY, "")


def test_a_file_that_is_damaged_is_noted(tmp_path: Path) -> None:
    (tmp_path / "a.gguf").write_bytes(b"GGUF")
    version = a_version(header=None)
    assert view_of(version, models_dir=tmp_path).unusable
    version.refresh_from_db()
    assert version.file_state == ModelVersion.FileState.FAILED


def test_what_an_older_release_did_not_keep_is_read_from_the_file(tmp_path: Path) -> None:
    bare, half = a_version(header=None), a_version()
    for version in (bare, half):
        write_llama(tmp_path / version.file_name)
    assert views(Wishes(), models_dir=tmp_path) == {}  # nobody asks for them
    for version in (bare, half):
        version.refresh_from_db()
        assert version.header["architecture"] == version.architecture
        assert version.kv_bytes_per_token == 2 * 2 * (8 + 8) * 2
        assert "completion" in version.capabilities


def test_a_header_that_lacks_one_value_of_this_release_is_incomplete() -> None:
    a_version(kv_bytes_per_token=1)
    header = header_facts(TINY)
    del header["matrices"]
    older = a_version(kv_bytes_per_token=1, header=header)
    assert take_snapshot().incomplete_files == {older.pk: older.file_name}


def test_a_wished_device_is_asked_for_and_not_written_into_the_version() -> None:
    gpu = DeviceFacts("cuda:0", "A", 300 * MIB)
    node, version = register_this_node("gpu", 4, facts=NodeFacts((gpu,))), a_version()
    (place,) = placements_among([node], version, {}, "cuda:0")
    assert (place.device, version.device) == ("cuda:0", "auto")
    assert placements_among([node], version, {}, "cuda:1") == placements_of(version, node, {})


def test_a_version_needs_what_was_foreseen_and_then_what_was_measured() -> None:
    version, node = a_version(), a_node()
    foreseen = estimate_of(version, node.cpu_features)
    assert foreseen is not None
    (place,) = placements_of(version, node, {})
    assert place.needs == {"cpu": round(foreseen.total_bytes * MARGIN)}
    options = options_of(version, "auto", node.cpu_features)
    note_footprint(version, options, 77 * MIB)
    note_footprint(version, options, 70 * MIB)  # it has yet to grow
    (place,) = placements_of(version, node, measured_footprints())
    assert place.needs == {"cpu": 77 * MIB + mapped_bytes(version, node)}
    version.kv_cells *= 2
    (place,) = placements_of(version, node, measured_footprints())
    assert place.needs["cpu"] > foreseen.total_bytes


def test_what_was_measured_long_ago_gives_way_to_less() -> None:
    version = a_version()
    note_footprint(version, "any", 77 * MIB)
    Footprint.objects.update(measured_at=timezone.now() - timedelta(days=2))
    note_footprint(version, "any", 70 * MIB)  # by another build, say
    assert measured_footprints() == {(version.pk, "any"): 70 * MIB}
    note_footprint(version, "any", 60 * MIB)
    assert measured_footprints() == {(version.pk, "any"): 70 * MIB}


def test_footprints_that_nothing_will_match_again_are_deleted() -> None:
    version = a_version(sha256="a" * 64)
    note_footprint(version, options_of(version, "auto", []), 77 * MIB)
    for old in ("auto 16384 cells", f"{version.key} auto", f"{'b' * 12} auto"):
        Footprint.objects.create(version=version, options=old, private_bytes=1)
    note_footprint(version, options_of(version, "cpu", []), 77 * MIB)
    kept = {options_of(version, device, []) for device in ("auto", "cpu")}
    assert set(Footprint.objects.values_list("options", flat=True)) == kept


def test_options_of_the_longest_names_have_room_in_their_rows() -> None:
    draft = a_version("d" * 50, Model.objects.create(slug="d" * 100, name="D"))
    version = a_version(
        "v" * 50,
        Model.objects.create(slug="v" * 100, name="V"),
        draft_model=draft,
        device="accelerator:99",
        kv_cells=2**31 - 1,
        max_sequences=2**31 - 1,
        gpu_layers=1000,
        cache_type_k="iq4_nl",
        cache_type_v="iq4_nl",
    )
    node = a_node(budget_bytes=1 << 60)
    node.cpu_features = sorted(COPYING_FEATURES)
    node.save()
    replica = desired.load(version, node)
    launch_id = uuid.uuid4()
    Replica.objects.update(launch_id=launch_id, state="starting", placed_on=version.device)
    taken = observed.begin_launch(replica.pk, launch_id, 1)
    assert taken is not None
    usual = taken.loaded_options
    draft.model.slug = version.usable_draft.model.slug = "e" * 100
    assert options_of(version, version.device, node.cpu_features) != usual


def test_what_was_measured_of_a_file_does_not_count_for_the_one_in_its_place() -> None:
    version, node = a_version(sha256="a" * 64), a_node()
    note_footprint(version, options_of(version, "auto", node.cpu_features), 77 * MIB)
    (measured,) = placements_of(version, node, measured_footprints())
    version.sha256 = "b" * 64
    (foreseen,) = placements_of(version, node, measured_footprints())
    assert (foreseen,) == placements_of(version, node, {})
    assert foreseen != measured


def test_what_was_measured_of_a_draft_model_does_not_count_for_another_file_of_it() -> None:
    draft = a_version(sha256="a" * 64)
    version = a_version(sha256="c" * 64, draft_model=draft)
    usual = options_of(version, "auto", [])
    draft.sha256 = "b" * 64
    assert options_of(version, "auto", []) != usual


def test_a_draft_model_needs_room_too() -> None:
    version, node = a_version(), a_node()
    (alone,) = placements_of(version, node, {})
    version.draft_model = a_version()
    (both,) = placements_of(version, node, {})
    assert both.needs["cpu"] == 2 * alone.needs["cpu"]
    assert version.draft_model.key in options_of(version, "auto", [])
    version.draft_model = a_version(file_state=ModelVersion.FileState.ABSENT, header=None)
    assert placements_of(version, node, {}) == (alone,)
    assert version.draft_model.key not in options_of(version, "auto", [])


def test_gpus_are_tried_one_by_one_and_then_together() -> None:
    gpus = (DeviceFacts("cuda:0", "A", 300 * MIB), DeviceFacts("cuda:1", "B", 100 * MIB))
    node = register_this_node("gpus", 4, facts=NodeFacts(gpus))
    version = a_version()
    places = placements_of(version, node, {})
    assert [place.device for place in places] == ["cuda:0", "cuda:1", "auto"]
    assert places[2].needs["cuda:0"] == pytest.approx(3 * places[2].needs["cuda:1"], abs=4)
    version.device = "cuda:1"
    assert [place.device for place in placements_of(version, node, {})] == ["cuda:1"]
    version.device = "cuda:7"  # is not there: the CPU, with a notice
    assert set(placements_of(version, node, {})[0].needs) == {"cpu"}
    version.device = "cpu"
    assert [place.device for place in placements_of(version, node, {})] == ["cpu"]


def test_a_machine_shows_its_devices_and_budgets() -> None:
    node = register_this_node("here", 2, 5 * MIB)
    assert node.budgets == {"cpu": 5 * MIB}
    gpu = DeviceFacts("cuda:0", "A", 1000)
    node = register_this_node("here", 2, 5 * MIB, NodeFacts((gpu,), ("AVX2",)))
    assert node.budgets == {"cpu": 5 * MIB, "cuda:0": 900}
    node = register_this_node("here", 2, 6 * MIB)  # without a new look it keeps them
    assert node.budgets == {"cpu": 6 * MIB, "cuda:0": 900}
    assert node.cpu_features == ["AVX2"]
    node.device_budgets = {"cpu": 7}
    assert node.budgets == {"cpu": 7, "cuda:0": 900}


def test_memory_of_a_container_is_its_limit(tmp_path: Path) -> None:
    physical = usable_memory_bytes([])
    limit = tmp_path / "memory.max"
    limit.write_text("1000000\n")
    assert usable_memory_bytes([tmp_path / "absent", limit]) == 1_000_000
    limit.write_text("max\n")
    assert usable_memory_bytes([limit]) == physical


def test_a_silent_node_is_not_picked(show: Show) -> None:
    version = a_version()
    silent, awake = a_node(budget_bytes=1 << 41), a_node(budget_bytes=1 << 40)
    show(LiveFigures(alive_nodes=frozenset({awake.name})))
    assert pick_node(version) == awake
    desired.load(version, silent)
    assert pick_node(version) == awake  # also where the other wants it already
    show(LiveFigures())
    with pytest.raises(RegistryError, match="No node runs a models cluster"):
        pick_node(version)
    show(LiveFigures(fault="Redis is away."))
    assert pick_node(version) == silent


def test_a_node_is_picked_by_its_room(show: Show) -> None:
    show(LiveFigures(fault="Nothing is known."))
    version = a_version()
    with pytest.raises(RegistryError, match="No node runs a models cluster"):
        pick_node(version)
    small = a_node(budget_bytes=1 << 20)
    with pytest.raises(RegistryError, match=r"may use 1\.0 MiB"):
        pick_node(version)
    large, larger = a_node(budget_bytes=1 << 40), a_node(budget_bytes=1 << 41)
    assert pick_node(version) == larger
    Replica.objects.create(
        version=a_version(), node=larger, state="ready", needed_bytes={"cpu": 3 << 39}
    )
    assert pick_node(version) == large
    desired.load(version, larger)
    assert pick_node(version) == larger  # where it is wanted already
    assert fault_of(version, small)
    assert not fault_of(version, large)


def test_a_node_without_a_place_for_a_host_is_not_picked(show: Show) -> None:
    show(LiveFigures(fault="Nothing is known."))
    version = a_version()
    larger, large = a_node(1, budget_bytes=1 << 41), a_node(1, budget_bytes=1 << 40)
    Replica.objects.create(version=a_version(), node=larger, state="ready")
    assert pick_node(version) == large
    Node.objects.filter(pk=large.pk).update(max_replicas=0)
    assert pick_node(version) == larger  # somebody can be put out there
    Node.objects.update(max_replicas=0)
    with pytest.raises(RegistryError, match="may run no hosts"):
        pick_node(version)


def test_room_on_a_gpu_is_none_for_what_is_loaded_on_the_cpu(show: Show) -> None:
    show(LiveFigures(fault="Nothing is known."))
    gpu = DeviceFacts("cuda:0", "A", 1 << 42)
    register_this_node("gpu", 4, 1 << 30, NodeFacts((gpu,)))
    large = a_node(budget_bytes=1 << 31)
    assert pick_node(a_version(device="cpu")) == large
    assert pick_node(a_version()).name == "gpu"
    full = {"cuda:0": int(0.9 * (1 << 42))}
    Replica.objects.create(
        version=a_version(), node=Node.objects.get(name="gpu"), state="ready", needed_bytes=full
    )
    assert pick_node(a_version()) == large
    assert pick_node(a_version(header=None)) == large


def test_more_nodes_take_no_more_queries_to_pick_one(show: Show) -> None:
    show(LiveFigures(fault="Nothing is known."))
    version = a_version()
    counts = []
    for _ in range(2):
        a_node()
        with CaptureQueriesContext(connection) as queries:
            pick_node(version)
        counts.append(len(queries))
    assert counts[0] == counts[1]


def test_a_crash_loop_is_a_failure_and_a_death_is_none() -> None:
    replica = desired.load(a_version(), a_node())
    replica.state, replica.crashes, replica.reason = "failed", 2, "It died."
    now = replica.state_since + timedelta(seconds=7)
    assert fleet.replica_view(replica, HostFacts(), (), now).failure == ""
    replica.crashes = 3
    assert fleet.replica_view(replica, HostFacts(), (), now).failure == "It died."
    replica.crashes, replica.load_failed = 1, True
    view = fleet.replica_view(replica, HostFacts(busy=2), (), now)
    assert view.state_age_seconds == 7
    assert (view.failure, view.load_failed, view.busy) == ("It died.", True, 2)


def test_ages_are_measured_by_the_clock_of_the_database(monkeypatch: pytest.MonkeyPatch) -> None:
    replica = desired.load(a_version(), a_node())
    Replica.objects.update(state="starting", launch_id=uuid.uuid4())
    replica.refresh_from_db()
    assert replica.launch_id is not None
    # The clocks of hosts differ, and from the controller's.
    actual = timezone.now()
    for write, hours in (
        (lambda launch: observed.begin_launch(replica.pk, launch, 7), 1),
        (lambda launch: observed.note_progress(launch, 0.5), -1),
        (lambda launch: observed.observe(launch, "ready"), 1),
    ):
        monkeypatch.setattr(timezone, "now", lambda hours=hours: actual + timedelta(hours=hours))
        write(replica.launch_id)
        monkeypatch.setattr(timezone, "now", lambda hours=hours: actual - timedelta(hours=hours))
        snapshot = take_snapshot()
        (row,) = snapshot.replicas
        assert abs((snapshot.taken_at - row.state_since).total_seconds()) < 60


def test_settings_name_what_is_loaded_at_the_start() -> None:
    version = a_version(is_default=True)
    slug = version.model.slug
    assert configured_versions([], "") == []
    assert configured_versions([slug, version.key], "") == [version]
    preset = Preset.objects.create(name="D1")
    preset.members.create(model=version.model)
    assert configured_versions([], "D1") == [version]
    for models, name in ((["nobody"], ""), ([], "D9")):
        with pytest.raises(RegistryError, match="INFERENCE_CONFIG"):
            configured_versions(models, name)


def test_other_wishes_are_forgotten_but_pins() -> None:
    wanted, other, pinned = a_version(), a_version(), a_version(pinned=True)
    node = a_node()
    for version in (wanted, other, pinned):
        desired.load(version, node)
    elsewhere = desired.load(other, a_node())
    assert forget_other_wishes([wanted], node) == 1
    resident = Replica.objects.filter(desired="resident")
    assert {row.version_id for row in resident.filter(node=node)} == {wanted.pk, pinned.pk}
    assert elsewhere in resident
    gone = Replica.objects.get(version=other, node=node)
    change = LogEntry.objects.get_for_object(gone).first()
    assert change is not None
    assert change.changes == {"desired": ["resident", "absent"]}


def test_a_header_survives_its_row() -> None:
    version = a_version(header=header_facts(TINY))
    version.refresh_from_db()
    assert version_keys() == take_snapshot().version_keys == [version.key]
    assert estimate_of(version, ("AVX2",)) == estimate_of(a_version(), ("AVX2",))


@pytest.mark.parametrize("gpus", [(300 * MIB,), (0,), (0, 0)])
@pytest.mark.parametrize("split", [[], [0, 1], [0.0]])
def test_odd_shares_of_gpus_do_not_fail(gpus: tuple[int, ...], split: list[float]) -> None:
    found = tuple(DeviceFacts(f"cuda:{number}", "A", size) for number, size in enumerate(gpus))
    node = register_this_node("gpus", 4, facts=NodeFacts(found))
    for place in placements_of(a_version(tensor_split=split), node, {}):
        assert all(need >= 0 for need in place.needs.values())


def test_a_version_that_cannot_be_foreseen_does_not_hide_the_others() -> None:
    a_node()
    odd, sound = a_version(cache_type_k="f17"), a_version()
    seen = views(Wishes({odd.key: Demand(queued=1), sound.key: Demand(queued=1)}))
    assert "cannot be estimated" in seen[odd.key].unusable
    assert seen[sound.key].placements


def test_a_header_of_an_older_release_is_read_again(tmp_path: Path) -> None:
    a_node()
    version = a_version(header={"architecture": "llama"}, file_name="odd.gguf")
    assert "was not read by this release" in view_of(version, models_dir=tmp_path).unusable


def test_a_node_without_figures_goes_by_its_memory() -> None:
    node = a_node()
    node.devices, node.memory_bytes = [], 1000 * MIB
    node.save()
    assert node.budgets == {"cpu": 800 * MIB}
    assert not fault_of(a_version(), node)


def test_footprints_are_told_apart_by_what_changes_them() -> None:
    version = a_version()
    usual = options_of(version, "auto", ["AVX2", "SSE3"])
    assert options_of(version, "auto", ["AVX2"]) == usual
    assert options_of(version, "auto", ["AVX2", "AMX_INT8"]) != usual
    version.flash_attention = "off"
    assert options_of(version, "auto", ["AVX2"]) != usual
