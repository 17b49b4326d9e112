"""Reports of an invented month: charts and their tooltips, the form, CSV, and one request."""

import subprocess
import sys

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Open, Shoot
from tests.live.service import ROOT, LiveService

pytestmark = [pytest.mark.live, pytest.mark.timeout(400)]
NARROW = {"width": 390, "height": 844}
PAGES = {"usage": 4, "latency": 3, "cost": 1, "fleet": 3}
LIST = "/admin/metrics/requestrecord/"
LINES = "one => Chart.getChart(one).tooltip.body.map(part => part.lines[0])"


@pytest.fixture(scope="module")
def month(site: LiveService) -> LiveService:
    subprocess.run(
        [sys.executable, "manage.py", "demo_usage"],
        cwd=ROOT,
        env=site.environment,
        check=True,
        timeout=120,
    )
    return site


def drawn(page: Page) -> int:
    """Charts whose canvas has something on it."""
    script = """canvases => canvases.filter(one =>
        one.getContext("2d").getImageData(0, 0, one.width, one.height).data.some(Boolean)).length"""
    return int(page.locator("canvas[data-chart]").evaluate_all(script))


def overflow(page: Page) -> int:
    """Pixels by which the page is wider than its window."""
    return int(page.evaluate("document.documentElement.scrollWidth - window.innerWidth"))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_reports_draw_their_charts(
    month: LiveService, open_page: Open, complaints: list[str], shoot: Shoot, scheme: str
) -> None:
    page = open_page(color_scheme=scheme)
    for name, charts in PAGES.items():
        page.goto(f"/admin/{name}/")
        assert drawn(page) == charts
        shoot(page, f"reports-{name}-{scheme}", is_whole=True)
    assert complaints == []


def test_chart_tells_its_numbers_where_the_mouse_is(month: LiveService, open_page: Open) -> None:
    page = open_page()
    page.goto("/admin/usage/")
    canvas = page.locator("canvas").first
    canvas.hover(position={"x": 300, "y": 100})
    told = canvas.evaluate(LINES)
    assert [line.partition(": ")[0] for line in told] == [
        "qwen3-8b",
        "all-minilm-l6-v2",
        "qwen2.5-coder-0.5b",
    ]


def test_chart_names_the_previous_period_once(month: LiveService, open_page: Open) -> None:
    page = open_page()
    page.goto("/admin/usage/?last=7d&period=day&compare=previous")
    canvas = page.locator("canvas").first
    canvas.hover(position={"x": 300, "y": 100})
    told = canvas.evaluate(LINES)
    assert [line.partition(": ")[0] for line in told] == ["previous", "all"]


def test_legend_hides_all_percentiles_of_a_version(month: LiveService, open_page: Open) -> None:
    page = open_page()
    page.goto("/admin/latency/")
    hidden = """one => { const chart = Chart.getChart(one), { legend } = chart;
        legend.options.onClick(null, legend.legendItems[0], legend);
        return chart.data.datasets.filter((_, place) => !chart.isDatasetVisible(place)).length; }"""
    assert page.locator("canvas").first.evaluate(hidden) == 3


def test_form_asks_another_question_and_gives_csv(
    month: LiveService, open_page: Open, complaints: list[str]
) -> None:
    page = open_page()
    page.goto("/admin/usage/")
    page.locator("[name=last]").select_option("7d")
    page.locator("[name=group]").select_option("team")
    page.locator("[name=tz]").fill("Asia/Kolkata")
    page.locator("[name=compare]").select_option("previous")
    page.get_by_role("button", name="Show").click()
    expect(page.locator(".ledger-table").first).to_contain_text("Support desk")
    expect(page.get_by_text("Asia/Kolkata. By team. Complete until")).to_be_visible()
    with page.expect_download() as download:
        page.get_by_role("button", name="CSV").click()
    assert "Support desk" in download.value.path().read_text()
    page.locator("[name=from]").fill("2026-01-01")
    expect(page.locator("[name=last]")).to_have_value("")
    assert complaints == []


def test_reports_and_requests_fit_a_narrow_window(month: LiveService, open_page: Open) -> None:
    page = open_page(viewport=NARROW)
    too_wide = {}
    for address in (*(f"/admin/{name}/" for name in PAGES), LIST):
        page.goto(address)
        too_wide[address] = overflow(page)
    assert {address: pixels for address, pixels in too_wide.items() if pixels > 0} == {}


def test_request_is_found_by_its_filter_and_has_a_page(
    month: LiveService, open_page: Open, complaints: list[str], shoot: Shoot
) -> None:
    page = open_page()
    page.goto(LIST)
    page.get_by_text("Filters").first.click()
    expect(page.locator("[name=version_key]").first).to_be_attached()
    shoot(page, "reports-requests")
    page.goto(f"{LIST}?since=&outcome__exact=failed")
    page.locator("#result_list tbody a").last.click()
    expect(page.get_by_role("heading", name="Timeline")).to_be_visible()
    expect(page.get_by_text("failed").first).to_be_visible()
    shoot(page, "reports-request", is_whole=True)
    assert complaints == []
