"""A package index of our own for tests: wheels made on the spot, served over HTTP."""

import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


def make_wheel(
    folder: Path, members: dict[str, bytes], version: str = "1.0", package: str = "tiny_model"
) -> Path:
    """A valid wheel of a package with these files."""
    information = f"{package}-{version}.dist-info"
    path = folder / f"{package}-{version}-py3-none-any.whl"
    texts = {
        f"{information}/METADATA": f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n",
        f"{information}/WHEEL": "Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\n"
        "Tag: py3-none-any\n",
        f"{information}/RECORD": "",
    }
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
        for name, content in texts.items():
            archive.writestr(name, content)
    return path


class SlowIndex:
    """Serves one wheel and stops half-way through it until `go_on` is set."""

    def __init__(self, wheel: Path) -> None:
        self.wheel = wheel
        self.go_on = threading.Event()
        self.url = ""


@contextmanager
def slow_index(wheel: Path) -> Iterator[SlowIndex]:
    """Run a `SlowIndex` for `wheel` on a free port of this machine."""
    index = SlowIndex(wheel)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path.endswith(".whl"):
                self._send_wheel()
            elif "tiny-model" in self.path:
                name = wheel.name
                self._send(f'<html><a href="/{name}">{name}</a></html>'.encode())
            else:
                self.send_error(404)

        def _send(self, body: bytes) -> None:
            self._head(len(body), "text/html")
            self.wfile.write(body)

        def _send_wheel(self) -> None:
            data = wheel.read_bytes()
            self._head(len(data), "application/octet-stream")
            self.wfile.write(data[: len(data) // 2])
            self.wfile.flush()
            index.go_on.wait(60)
            try:
                self.wfile.write(data[len(data) // 2 :])
            except ConnectionError:
                return  # the download was cancelled

        def _head(self, length: int, content_type: str) -> None:
            self.send_response(200)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(length))
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    index.url = f"http://127.0.0.1:{server.server_address[1]}/simple"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield index
    finally:
        index.go_on.set()
        server.shutdown()
        server.server_close()
        thread.join()
