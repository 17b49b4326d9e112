"""A page of another origin calls the API by ``fetch``, in a real browser."""

import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Error

from tests.live.service import LiveService

pytestmark = [pytest.mark.live, pytest.mark.timeout(400)]
SCRIPT = """
async ([url, key]) => {
  const answer = await fetch(url + "/v1/chat/completions", {
    method: "POST",
    headers: {
      "Authorization": "Bearer " + key, "Content-Type": "application/json",
      "X-Request-Id": "of a page", "X-Stainless-Lang": "js",
    },
    body: JSON.stringify({
      model: "smollm2-135m", stream: true, max_tokens: 20,
      messages: [{role: "user", content: "Count to ten."}],
    }),
  });
  let text = "";
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  for (let part = await reader.read(); !part.done; part = await reader.read()) text += part.value;
  return {
    status: answer.status, text, requestId: answer.headers.get("X-Request-Id"),
    version: answer.headers.get("X-Brigade-Model-Version"),
  };
}
"""


@pytest.fixture
def page_port(tmp_path: Path) -> Iterator[int]:
    """A web server with an empty page."""
    (tmp_path / "index.html").write_text("<!doctype html><title>x</title>")
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


def chat_from(browser: Browser, page_url: str, site: LiveService) -> Any:
    page = browser.new_page()
    page.goto(page_url)
    try:
        return page.evaluate(SCRIPT, [site.base_url, site.api_key])
    finally:
        page.close()


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_page_on_another_port_streams_a_chat(
    browser: Browser, site: LiveService, page_port: int, host: str
) -> None:
    answer = chat_from(browser, f"http://{host}:{page_port}/", site)
    assert answer["status"] == 200
    assert answer["text"].count("data: {") > 2
    assert answer["text"].endswith("data: [DONE]\n\n")
    assert answer["requestId"] == "of a page"
    assert answer["version"].startswith("smollm2-135m@")


def test_page_of_another_host_is_not_let_in(
    browser: Browser, site: LiveService, page_port: int
) -> None:
    with pytest.raises(Error, match="Failed to fetch"):
        chat_from(browser, f"http://foreign.localhost:{page_port}/", site)
