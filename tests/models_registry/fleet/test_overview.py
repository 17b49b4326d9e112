"""The whole fleet at one moment, and what its page shows."""

import re
from datetime import timedelta

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from models_registry.access import VIEWERS
from models_registry.fleet import live_figures as figures
from models_registry.fleet.live_figures import HostFigures, LiveFigures, Subjects
from models_registry.fleet.overview import Holding, read_overview
from models_registry.models import Download, Replica
from tests.models_registry.admin_users import client_of
from tests.models_registry.conftest import Show
from tests.models_registry.fleet_rows import a_node, a_version

pytestmark = pytest.mark.django_db
GIB = 1 << 30
LAUNCH = "1d6ba6c1-3a4b-4f2e-9d6a-0d1f7f6f9f11"


@pytest.fixture
def viewer() -> Client:
    return client_of(VIEWERS)


def _replica(node, state: str = "ready", gib: float = 1, **fields) -> Replica:
    return Replica.objects.create(
        version=a_version(),
        node=node,
        state=state,
        needed_bytes={"cpu": int(gib * GIB)},
        **fields,
    )


def watch_looks() -> list[Subjects]:
    """The subjects of live figures that are asked for from now on; there are none."""
    looks: list[Subjects] = []

    def look(asked: Subjects) -> LiveFigures:
        looks.append(asked)
        return LiveFigures()

    figures.register_figures(look)
    return looks


def _page(viewer: Client) -> str:
    return viewer.get(reverse("admin_overview")).content.decode()


def test_devices_tell_used_from_reserved_and_free(show: Show) -> None:
    node = a_node(budget_bytes=8 * GIB)
    ready = _replica(node, gib=3)
    loading = _replica(node, "loading", gib=2)
    _replica(node, "stopped", gib=1)
    _replica(a_node(), gib=4)
    (state,) = (one for one in read_overview().nodes if one.node == node)
    (cpu,) = state.devices
    assert (cpu.used_bytes, cpu.reserved_bytes, cpu.free_bytes) == (3 * GIB, 2 * GIB, 3 * GIB)
    assert cpu.holdings == (
        Holding(ready.version.key, 3 * GIB, is_reserved=False),
        Holding(loading.version.key, 2 * GIB, is_reserved=True),
    )
    assert state.hosts == 2


def test_what_failed_is_shown_with_its_whole_reason(show: Show, viewer: Client) -> None:
    _replica(a_node(), "failed", desired="absent", reason="It died.\nIts log ends:\nlast words")
    page = _page(viewer)
    assert "It died." in page
    assert "last words" in page


def test_budget_that_is_exceeded_is_shown_with_the_excess(show: Show, viewer: Client) -> None:
    _replica(a_node(budget_bytes=GIB), gib=1.5)
    assert "512 MiB over" in _page(viewer)


def test_more_of_everything_takes_no_more_queries_and_one_look(show: Show, viewer: Client) -> None:
    looks = watch_looks()
    counts = []
    for _ in range(2):
        node = a_node(budget_bytes=8 * GIB)
        for _ in range(3):
            _replica(node)
        Download.objects.create(version=a_version())
        looks.clear()
        with CaptureQueriesContext(connection) as queries:
            _page(viewer)
        counts.append((len(queries), len(looks)))
    assert counts[0] == counts[1]
    assert counts[0][1] == 1


def test_list_of_nodes_looks_once(show: Show, viewer: Client) -> None:
    looks = watch_looks()
    nodes = [a_node() for _ in range(3)]
    page = viewer.get(reverse("admin:models_registry_node_changelist")).content.decode()
    assert page.count("silent") >= 3
    assert [set(asked.nodes) for asked in looks] == [{node.name for node in nodes}]


def test_replicas_show_the_figures_of_their_hosts(show: Show, viewer: Client) -> None:
    replica = _replica(a_node(), launch_id=LAUNCH)
    show(
        LiveFigures(
            hosts={LAUNCH: HostFigures(7, 2, 123.4)},
            queued={replica.version.key: 5},
            alive_nodes=frozenset({replica.node.name}),
        )
    )
    overview = read_overview()
    assert (overview.running, overview.waiting, overview.tokens_per_second) == (7, 5, 123.4)
    page = _page(viewer)
    assert "answers" in page
    cells = re.findall(r"<td[^>]*>\s*([\d,]+)\s*</td>", page)
    assert cells == ["7", "5", "123"]


def test_figures_are_asked_for_once_with_all_names(show: Show) -> None:
    asked: list[Subjects] = []
    replica = _replica(a_node(), launch_id=LAUNCH)

    def source(subjects: Subjects) -> LiveFigures:
        asked.append(subjects)
        return LiveFigures()

    figures.register_figures(source)
    read_overview()
    (subjects,) = asked
    assert list(subjects.launch_ids) == [LAUNCH]
    assert replica.version.key in subjects.version_keys
    assert replica.node.name in subjects.nodes


def test_silent_node_and_missing_figures_are_said(show: Show, viewer: Client) -> None:
    a_node()
    show(LiveFigures(fault="Redis is out of reach."))
    page = _page(viewer)
    assert "silent" in page
    assert "Redis is out of reach." in page


def test_loading_replica_shows_how_far_it_is(show: Show, viewer: Client) -> None:
    _replica(a_node(), "loading", load_fraction=0.42)
    page = _page(viewer)
    assert "42%" in page
    assert "fleet-reserved" in page


def test_replica_tells_why_it_is_not_there(show: Show, viewer: Client) -> None:
    _replica(a_node(), "failed", reason="It died <three> times.")
    assert "It died &lt;three&gt; times." in _page(viewer)


def test_replicas_at_rest_are_left_out(show: Show) -> None:
    _replica(a_node(), "stopped", desired="absent")
    assert read_overview().replicas == ()


def test_requests_without_a_replica_are_shown(show: Show, viewer: Client) -> None:
    version = a_version()
    show(LiveFigures(queued={version.key: 3}))
    assert f"{version.key}: 3 waiting request(s)" in _page(viewer)


def test_downloads_go_from_sight_a_while_after_their_end(show: Show) -> None:
    active = Download.objects.create(version=a_version())
    ended = Download.objects.create(version=a_version(), state="done")
    old = Download.objects.create(version=a_version(), state="failed")
    now = timezone.now()
    Download.objects.filter(pk=ended.pk).update(finished_at=now)
    Download.objects.filter(pk=old.pk).update(finished_at=now - timedelta(hours=1))
    assert set(read_overview().downloads) == {active, ended}


def test_download_shows_bytes_speed_and_time_left(show: Show, viewer: Client) -> None:
    Download.objects.create(
        version=a_version(),
        state="running",
        done_bytes=GIB,
        total_bytes=4 * GIB,
        bytes_per_second=GIB // 10,
    )
    page = _page(viewer)
    assert "1.0 GiB of 4.0 GiB, 102 MiB/s, 30 s left" in page
    assert "25 %" in page


def test_only_the_inner_part_is_sent_to_htmx(show: Show, viewer: Client) -> None:
    part = viewer.get(reverse("admin_overview"), headers={"HX-Request": "true"}).content.decode()
    assert part.strip().startswith('<div id="fleet"')
    assert "<html" not in part


def test_index_of_the_admin_is_the_overview(show: Show, viewer: Client) -> None:
    assert 'id="fleet"' in viewer.get(reverse("admin:index")).content.decode()
