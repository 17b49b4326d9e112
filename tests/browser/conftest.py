"""A real browser in front of a real service with small models, and pictures of what it shows.

The pictures go to a temporary folder, or to the one that BRIGADE_SCREENSHOTS names.
"""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from tests.live.service import LiveService
from tests.models_registry.file_server import FileServer, file_server

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium")
WIDE = {"width": 1280, "height": 860}
Shoot = Callable[..., None]
Open = Callable[..., Page]


@pytest.fixture(scope="module")
def site(
    smollm2_path: Path, minilm_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LiveService]:
    """A service with models of its own, which tests may add to and delete from."""
    folder = tmp_path_factory.mktemp("models")
    for path in (smollm2_path, minilm_path):
        shutil.copy(path, folder / path.name)
    with LiveService(folder, INFERENCE_HEARTBEAT="0.2", INFERENCE_LEASE="3").running(
        240
    ) as service:
        yield service


@pytest.fixture(scope="module")
def model_server(smollm2_path: Path) -> Iterator[FileServer]:
    """A web server that has a model's file."""
    with file_server(smollm2_path.read_bytes()) as server:
        yield server


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium.

    While Playwright is started, its event loop counts as running in this thread, and nothing else
    may run one: it ends with the module, before the tests of others.
    """
    if CHROMIUM is None:
        pytest.skip("Chromium is missing: apt install chromium, or set CHROMIUM to its path.")
    with sync_playwright() as playwright:
        # As root, which a container's user often is, Chromium's sandbox does not start.
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def complaints() -> list[str]:
    """Messages of the consoles of all pages, and addresses that were not found."""
    return []


@pytest.fixture
def open_page(browser: Browser, site: LiveService, complaints: list[str]) -> Iterator[Open]:
    """Open a page with options of its own; logged in as the first administrator, or as a user."""
    with ExitStack() as opened:

        def open_(
            user: str = "", password: str = "", *, has_script: bool = True, **options: object
        ) -> Page:
            settings = {"viewport": WIDE, "java_script_enabled": has_script, **options}
            context = browser.new_context(base_url=site.base_url, **settings)
            opened.callback(context.close)
            page = context.new_page()
            page.on("pageerror", lambda error: complaints.append(str(error)))
            page.on("console", lambda message: _note(complaints, message.type, message.text))
            page.goto("/admin/")
            page.fill("input[name=username]", user or site.first_run["admin_user"])
            page.fill("input[name=password]", password or site.first_run["admin_password"])
            page.click("[type=submit]")
            page.wait_for_url("**/admin/")
            return page

        yield open_


@pytest.fixture
def shoot(tmp_path: Path) -> Shoot:
    """Take a picture of a page under a name."""
    folder = Path(os.environ.get("BRIGADE_SCREENSHOTS") or tmp_path)
    folder.mkdir(parents=True, exist_ok=True)

    def take(page: Page, name: str, *, is_whole: bool = False) -> None:
        page.evaluate("document.fonts.ready")
        if is_whole:
            # In a window as high as the page; what sticks to the window's foot covers nothing then.
            height = page.evaluate("document.documentElement.scrollHeight")
            page.set_viewport_size({"width": WIDE["width"], "height": height})
        page.screenshot(path=folder / f"{name}.png", animations="disabled")
        if is_whole:
            page.set_viewport_size(WIDE)

    return take


def _note(complaints: list[str], kind: str, text: str) -> None:
    if kind in ("error", "warning"):
        complaints.append(text)
