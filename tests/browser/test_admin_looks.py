"""The admin in the dark, in a narrow window, without JavaScript, and for who may only look."""

import subprocess
import sys

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Open, Shoot
from tests.live.service import ROOT, LiveService

pytestmark = [pytest.mark.live, pytest.mark.timeout(400)]
NARROW = {"width": 390, "height": 844}
PAGES = (
    "/admin/",
    "/admin/models_registry/model/",
    "/admin/models_registry/modelversion/",
    "/admin/models_registry/preset/",
    "/admin/models_registry/replica/",
    "/admin/models_registry/node/",
    "/admin/models_registry/download/",
    "/admin/models_registry/registration/",
    "/admin/models_registry/prediction/",
    "/admin/auditlog/logentry/",
)
_MAKE_USER = (
    "from django.contrib.auth.models import Group, User;"
    "user = User.objects.create_user({name!r}, password={password!r}, is_staff=True);"
    "user.groups.add(Group.objects.get(name={group!r}))"
)


def _make_user(site: LiveService, name: str, group: str) -> str:
    password = f"long enough for {name}"
    code = _MAKE_USER.format(name=name, password=password, group=group)
    subprocess.run(
        [sys.executable, "manage.py", "shell", "-c", code],
        cwd=ROOT,
        env=site.environment,
        check=True,
        timeout=60,
    )
    return password


def _overflow(page: Page) -> int:
    """Pixels by which the page is wider than its window."""
    return int(page.evaluate("document.documentElement.scrollWidth - window.innerWidth"))


def test_pages_in_the_dark_say_nothing_on_the_console(
    open_page: Open, complaints: list[str], shoot: Shoot
) -> None:
    page = open_page(color_scheme="dark")
    for address in PAGES:
        page.goto(address)
        shoot(page, "dark" + address.removeprefix("/admin").rstrip("/").replace("/", "-"))
    assert complaints == []


def test_pages_fit_a_narrow_window(open_page: Open, complaints: list[str], shoot: Shoot) -> None:
    page = open_page(viewport=NARROW)
    too_wide = {}
    for address in PAGES:
        page.goto(address)
        too_wide[address] = _overflow(page)
        shoot(page, "narrow" + address.removeprefix("/admin").rstrip("/").replace("/", "-"))
    assert {address: pixels for address, pixels in too_wide.items() if pixels > 0} == {}
    assert complaints == []


def test_overview_refreshes_itself(open_page: Open) -> None:
    page = open_page()
    seen = page.get_by_text("As of").inner_text()
    expect(page.get_by_text("As of")).not_to_have_text(seen, timeout=10_000)


def test_overview_is_there_without_javascript(open_page: Open, shoot: Shoot) -> None:
    page = open_page(has_script=False)
    expect(page.locator("#fleet").get_by_text("smollm2-135m@q4_1").first).to_be_visible()
    shoot(page, "no-script")


def test_prompt_is_answered_without_javascript(open_page: Open, shoot: Shoot) -> None:
    page = open_page(has_script=False)
    page.goto("/admin/try/smollm2-135m@q4_1/")
    page.locator("#id_prompt").fill("Say hello.")
    page.locator("#id_max_tokens").fill("8")
    page.get_by_role("button", name="Send").click()
    expect(page.locator("#try-answer")).not_to_be_empty(timeout=30_000)
    shoot(page, "no-script-try")


def test_viewer_sees_pages_without_actions(
    site: LiveService, open_page: Open, complaints: list[str], shoot: Shoot
) -> None:
    page = open_page("vera", _make_user(site, "vera", "Viewers"))
    expect(page.locator("#fleet")).to_be_visible()
    page.goto("/admin/models_registry/modelversion/?q=smollm2")
    page.get_by_role("link", name="smollm2-135m@q4_1").click()
    expect(page.get_by_text("Unload", exact=True)).to_have_count(0)
    expect(page.get_by_role("button", name="Save")).to_have_count(0)
    expect(page.get_by_text("API keys")).to_have_count(0)
    shoot(page, "viewer-version")
    assert complaints == []
