"""An administrator uses the admin, in a real browser before the real service."""

import json
import re
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from email.message import Message

import pytest
from playwright.sync_api import Page, expect

from inference.api.version_headers import VERSION_HEADER
from tests.browser.conftest import Open, Shoot
from tests.live.service import LiveService
from tests.models_registry.file_server import FileServer, Reply

pytestmark = [pytest.mark.live, pytest.mark.timeout(400)]
MODEL = "smollm2-135m"
SEEDED, PULLED = f"{MODEL}@q4_1", f"{MODEL}@pulled"
PATIENCE_MS = 60_000


@pytest.fixture
def page(open_page: Open, complaints: list[str]) -> Iterator[Page]:
    """A page whose console stays silent."""
    page = open_page()
    page.set_default_timeout(20_000)
    yield page
    assert complaints == []


def test_administrator_pulls_loads_tries_builds_a_preset_and_makes_a_default(
    page: Page, site: LiveService, model_server: FileServer, shoot: Shoot
) -> None:
    _pull(page, site, model_server, shoot)
    _load(page, shoot)
    _try_prompt(page, shoot)
    _build_preset(page, shoot)
    _make_default(page, shoot)
    assert _answering_version(site) == PULLED
    _look_at_history(page, shoot)


def _pull(page: Page, site: LiveService, model_server: FileServer, shoot: Shoot) -> None:
    # The first part breaks off; the second stays on its way until the picture is taken.
    part = len(model_server.data) // 3
    model_server.reply(Reply(cut_after=part), Reply(cut_after=part, holds=True), Reply())
    _click(page, "Models")
    _click(page, "Pull from a source")
    dialog = page.locator("#dialog")
    dialog.get_by_label("Source").fill(f"{model_server.url}/pulled.gguf")
    dialog.get_by_label("Model id").fill(MODEL)
    dialog.get_by_label("Version label").fill("pulled")
    shoot(page, "admin-pull")
    dialog.get_by_role("button", name="Pull").click()
    expect(page.get_by_text("Its file is being downloaded.")).to_be_visible()

    page.goto("/admin/")
    downloads = page.locator("#fleet")
    share = downloads.get_by_text(re.compile(r"\b[1-9][0-9.]* MiB of 93.8 MiB"))
    expect(share).to_be_visible(timeout=PATIENCE_MS)
    with _traffic(site):
        replica = page.locator("#fleet tr:has(a[href*='/replica/'])", has_text=SEEDED)
        busy = replica.locator("td").last
        expect(busy).to_have_text(re.compile(r"[1-9]\d*"), timeout=PATIENCE_MS)
        shoot(page, "admin-overview")
    model_server.release()
    pulled = page.locator("#fleet tr", has_text=PULLED)
    expect(pulled.get_by_text("done", exact=True)).to_be_visible(timeout=PATIENCE_MS)


def _load(page: Page, shoot: Shoot) -> None:
    _open_version(page, PULLED)
    shoot(page, "admin-version")
    page.locator("#content a", has_text="Memory").click()
    expect(page.get_by_role("cell", name=re.compile("MiB \\(cpu\\)"))).to_be_visible()
    shoot(page, "admin-version-memory")
    _click(page, "Load")
    dialog = page.locator("#dialog")
    expect(dialog.get_by_text("Load this version?")).to_be_visible()
    shoot(page, "admin-load")
    dialog.get_by_role("button", name="Load").click()
    expect(page.get_by_text(f"{PULLED} is being loaded on local.")).to_be_visible()
    page.goto("/admin/")
    row = page.locator("#fleet tr", has_text=PULLED)
    expect(row.get_by_text("ready", exact=True).first).to_be_visible(timeout=PATIENCE_MS)


def _try_prompt(page: Page, shoot: Shoot) -> None:
    _open_version(page, PULLED)
    _click(page, "Try a prompt")
    page.locator("#id_prompt").fill("Write two sentences about the sea.")
    page.locator("#id_temperature").fill("0")
    page.get_by_role("button", name="Send").click()
    expect(page.get_by_text(re.compile(r"\d+ tokens in [\d.]+ s"))).to_be_visible(
        timeout=PATIENCE_MS
    )
    assert len(page.locator("#try-answer").inner_text().split()) > 5
    shoot(page, "admin-try")


def _build_preset(page: Page, shoot: Shoot) -> None:
    page.goto("/admin/models_registry/preset/add/")
    page.locator("#id_name").fill("mine")
    page.locator("#id_title").fill("A draft, and what the new version says of it")
    page.locator("#id_orchestration_mode").select_option("critique")
    for number, (role, version) in enumerate((("generator", SEEDED), ("critic", PULLED))):
        page.get_by_text("Add another Preset member").click()
        member = f"#id_members-{number}"
        page.locator(f"{member}-role").select_option(role)
        page.locator(f"{member}-model").select_option(label=MODEL)
        page.locator(f"{member}-version").select_option(label=version)
    page.get_by_role("button", name="Save and continue editing").click()
    expect(page.get_by_text("was added successfully")).to_be_visible()
    expect(page.get_by_text(re.compile(r"cpu: Fits: it needs .* of .* GiB"))).to_be_visible()
    shoot(page, "admin-preset", is_whole=True)


def _make_default(page: Page, shoot: Shoot) -> None:
    _open_version(page, PULLED)
    page.locator("li > a", has_text="More").click()
    _click(page, "Make default")
    dialog = page.locator("#dialog")
    expect(dialog.get_by_text("Make this version the default?")).to_be_visible()
    dialog.get_by_role("button", name="Make default").click()
    expect(page.get_by_text(f"{PULLED} is the default of {MODEL}.")).to_be_visible()
    page.locator("#content").get_by_role("link", name=MODEL, exact=True).click()
    expect(page.get_by_text("Versions", exact=True).last).to_be_visible()
    shoot(page, "admin-model")


def _look_at_history(page: Page, shoot: Shoot) -> None:
    _open_version(page, PULLED)
    _click(page, "History")
    expect(page.get_by_role("cell", name="admin", exact=True).first).to_be_visible()
    expect(page.get_by_text(re.compile("is default: False → True")).first).to_be_visible()
    shoot(page, "admin-audit-trail")


def _click(page: Page, text: str) -> None:
    """Follow a link by its last words; before them it may have the name of an icon."""
    page.locator("a:visible").filter(has_text=re.compile(rf"(^|\s){text}\s*$")).first.click()


def _open_version(page: Page, key: str) -> None:
    page.goto(f"/admin/models_registry/modelversion/?q={key.partition('@')[2]}")
    page.get_by_role("link", name=key).click()


@contextmanager
def _traffic(site: LiveService) -> Iterator[None]:
    """Requests that run while something is looked at."""
    with ThreadPoolExecutor(3) as clients:
        running = [clients.submit(_ask, site, "Tell me a story.", 400) for _ in range(3)]
        yield
        for one in running:
            one.result()


def _answering_version(site: LiveService) -> str:
    """The version that answers a request which names only the model."""
    return _ask(site, "Hello", 1)[VERSION_HEADER]


def _ask(site: LiveService, prompt: str, max_tokens: int) -> Message:
    """Chat with the model's default version; the headers of the answer."""
    message = {"role": "user", "content": prompt}
    body = {"model": MODEL, "max_tokens": max_tokens, "messages": [message], "ignore_eos": True}
    request = urllib.request.Request(
        f"{site.base_url}/v1/chat/completions",
        json.dumps(body).encode(),
        {"Authorization": f"Bearer {site.api_key}", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=120) as answer:
        headers: Message = answer.headers
    return headers
