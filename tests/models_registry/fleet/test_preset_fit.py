"""Whether presets fit into the memory of the nodes there are."""

import pytest
from django.urls import reverse

from models_registry.access import VIEWERS
from models_registry.fleet import preset_fit
from models_registry.fleet.footprints import measured_footprints, options_of, placements_of
from models_registry.fleet.preset_fit import FitReport, NodeFit, crowded_nodes, fit_device
from models_registry.models import Footprint, Node, Preset, PresetMember, Replica
from tests.models_registry.admin_users import client_of
from tests.models_registry.fleet_rows import a_node, a_version

pytestmark = pytest.mark.django_db
GB = 10**9
GIB = 1 << 30


def _preset(*versions) -> Preset:
    preset = Preset.objects.create(name="mine", orchestration_mode="ensemble")
    for position, version in enumerate(versions):
        PresetMember.objects.create(
            preset=preset, position=position, model=version.model, version=version
        )
    return preset


def _fit(preset: Preset, node: Node) -> NodeFit:
    (found,) = FitReport([node]).fits(preset)
    return found


def test_device_takes_versions_that_fit_together() -> None:
    found = fit_device("cpu", {"a": GIB, "b": GIB}, 2 * GIB)
    assert (found.resident, found.swapped, found.never) == (("a", "b"), (), ())
    assert found.missing_bytes == 0
    assert str(found) == "Fits: it needs 2.0 GiB of 2.0 GiB."


def test_device_says_how_much_is_missing_and_which_versions_fit() -> None:
    needs = {"a": GIB, "b": 3 * GIB // 2, "c": GIB // 2, "d": 4 * GIB}
    found = fit_device("cpu", needs, 2 * GIB)
    assert (found.resident, found.swapped, found.never) == (("a", "c"), ("b",), ("d",))
    assert found.missing_bytes == 5 * GIB
    assert str(found) == (
        "Does not fit at once: it needs 7.0 GiB, 5.0 GiB more than the 2.0 GiB there are. "
        "In memory together: a, c. Loaded in turn: b. Too large even alone: d."
    )


def test_members_that_fit_together_fit() -> None:
    found = _fit(_preset(a_version(), a_version()), a_node())
    assert found.verdict == "fits"
    assert {need.basis for need in found.members} == {"foreseen"}


def test_members_too_large_together_take_turns_and_say_by_how_much() -> None:
    one, other = a_version(), a_version()
    node = a_node(budget_bytes=GB)
    (place,) = placements_of(one, node, measured_footprints())
    need = place.needs["cpu"]
    node = a_node(budget_bytes=need + 1)
    found = _fit(_preset(one, other), node)
    (device,) = found.devices
    assert found.verdict == "takes turns"
    assert device.missing_bytes == need - 1
    assert (device.resident, device.swapped) == ((one.key,), (other.key,))


def test_member_too_large_alone_is_named() -> None:
    large = a_version(header=None, documented_memory_bytes=20 * GB)
    found = _fit(_preset(a_version(), large), a_node(budget_bytes=10 * GB))
    assert found.verdict == "too large"
    assert found.devices[0].never == (large.key,)


def test_each_member_gets_a_gpu_of_its_own_where_there_are_several() -> None:
    one, other, third = (a_version() for _ in range(3))
    node = a_node()
    gpus = [
        {"name": f"cuda:{number}", "memory_bytes": 1 << 40, "budget_bytes": 1 << 40}
        for number in range(2)
    ]
    node.devices = [*node.devices, *gpus]
    need = placements_of(one, node, {})[0].needs["cuda:0"]
    node.device_budgets = {"cuda:0": need, "cuda:1": need}
    preset = _preset(one, other)
    found = _fit(preset, node)
    assert found.verdict == "fits"
    assert [set(member.needs) - {"cpu"} for member in found.members] == [{"cuda:0"}, {"cuda:1"}]
    PresetMember.objects.create(preset=preset, position=2, model=third.model, version=third)
    assert _fit(preset, node).verdict == "takes turns"


def test_two_roles_of_one_version_count_once() -> None:
    version = a_version()
    assert len(_fit(_preset(version, version), a_node()).members) == 1


def test_numbers_come_from_measurement_then_file_then_publisher_then_size() -> None:
    node = a_node()
    measured = a_version()
    options = options_of(measured, "auto", [])
    Footprint.objects.create(version=measured, options=options, private_bytes=123)
    members = (
        measured,
        a_version(),
        a_version(header=None, documented_memory_bytes=5, size_bytes=4),
        a_version(header=None, size_bytes=4),
    )
    bases = [need.basis for need in _fit(_preset(*members), node).members]
    assert bases == ["measured", "foreseen", "published", "file"]


def test_member_of_unknown_size_leaves_it_open() -> None:
    unknown = a_version(header=None)
    found = _fit(_preset(a_version(), unknown), a_node())
    assert (found.verdict, found.unknown) == ("unknown", (unknown.key,))


def test_member_without_a_version_takes_the_default_or_is_missing() -> None:
    with_default, without = a_version(is_default=True), a_version()
    preset = Preset.objects.create(name="mine")
    for version in (with_default, without):
        PresetMember.objects.create(preset=preset, model=version.model)
    found = _fit(preset, a_node())
    assert [need.version_key for need in found.members] == [with_default.key]
    assert found.missing == (without.model.slug,)


def test_more_members_than_hosts_take_turns() -> None:
    found = _fit(_preset(a_version(), a_version()), a_node(max_replicas=1))
    assert found.verdict == "takes turns"
    assert "at most 1 hosts (INFERENCE_MAX_REPLICAS) for 2 models" in found.sentences[-1]


def test_crowded_nodes_are_those_where_not_all_that_is_wanted_fits() -> None:
    one, other = a_version(), a_version()
    node = a_node(max_replicas=1)
    for version in (one, other):
        Replica.objects.create(version=version, node=node)
    Replica.objects.create(version=a_version(), node=node, on_demand=True)
    Replica.objects.create(version=one, node=a_node(max_replicas=1))
    (found,) = crowded_nodes()
    assert (found.node, len(found.members)) == (node.name, 2)
    assert {need.version_key for need in found.members} == {one.key, other.key}
    Replica.objects.filter(version=other).update(desired=Replica.Desired.ABSENT)
    assert crowded_nodes() == []
    (found,) = crowded_nodes([other], node.name)
    assert len(found.members) == 2


def test_best_verdict_of_all_nodes_counts() -> None:
    preset = _preset(a_version(), a_version())
    assert FitReport([a_node(budget_bytes=1), a_node()]).best(preset) == "fits"
    assert FitReport([]).best(preset) == "no node"


def test_page_shows_numbers_and_who_takes_turns() -> None:
    preset = _preset(a_version(), a_version(header=None, documented_memory_bytes=2 * GB))
    a_node(budget_bytes=GB)
    url = reverse("admin:models_registry_preset_change", args=[preset.pk])
    page = client_of(VIEWERS).get(url).content.decode()
    assert "Does not fit at once: it needs 1.9 GiB" in page
    assert "Too large even alone" in page


def test_list_looks_each_version_up_once(
    django_assert_max_num_queries, monkeypatch: pytest.MonkeyPatch
) -> None:
    viewer = client_of(VIEWERS)
    version = a_version()
    for number in range(20):
        preset = Preset.objects.create(name=f"p{number}")
        PresetMember.objects.create(preset=preset, model=version.model, version=version)
    a_node()
    looked_up = []

    def placements(*args):
        looked_up.append(args)
        return placements_of(*args)

    monkeypatch.setattr(preset_fit, "placements_of", placements)
    with django_assert_max_num_queries(30):
        page = viewer.get(reverse("admin:models_registry_preset_changelist"))
    assert page.content.decode().count(version.key) >= 20
    assert len(looked_up) == 1
