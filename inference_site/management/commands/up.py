"""``manage.py up``: the whole service on one machine, until Ctrl-C."""

import asyncio
import shlex
import sys
from functools import partial
from pathlib import Path
from typing import Any

import redis
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import connections
from rich.console import Console

from inference_site.embedded import EmbeddedServerError
from inference_site.embedded.lifecycle import EmbeddedServers
from inference_site.first_run import PREPARE_ERRORS, FirstRun, base_url, first_run_path, prepare
from inference_site.supervisor.child import ChildSpec
from inference_site.supervisor.preflight import PreflightError, check_port, claim_home
from inference_site.supervisor.readiness import ReadinessWatch
from inference_site.supervisor.screen import Screen
from inference_site.supervisor.supervisor import Supervisor

# The rest of the supervisor's deadline after the share of the web process.
CLUSTER_STOP_SECONDS = 5.0
EXPECTED_ERRORS = (PreflightError, EmbeddedServerError, *PREPARE_ERRORS)


class Command(BaseCommand):
    help = (
        "Run the whole service on this machine: Postgres and Redis (unless DATABASE_URL and "
        "REDIS_URL name yours), migrations, default models, web, model hosts and jobs. "
        "Ctrl-C stops everything; a second Ctrl-C kills."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        console = Console()
        host, port, home = settings.INFERENCE_HOST, settings.INFERENCE_PORT, settings.BRIGADE_HOME
        try:
            with claim_home(home):
                check_port(host, port)
                console.print("Starting the servers …", style="dim")
                with EmbeddedServers.unless_configured(home) as servers:
                    created = self._prepare(console)
                    status = self._serve(console, servers, created)
        except EXPECTED_ERRORS as error:
            raise CommandError(str(error)) from error
        except OSError as error:
            raise CommandError(f"Cannot use {home}: {error}") from error
        except KeyboardInterrupt:
            raise CommandError("Stopped before the start was complete.", returncode=130) from None
        if status != 0:
            raise CommandError("Killed.", returncode=status)
        console.print("Stopped.", style="bold")

    @staticmethod
    def _prepare(console: Console) -> FirstRun | None:
        console.print("Preparing the database and the models …", style="dim")
        with redis.Redis.from_url(settings.REDIS_URL, socket_connect_timeout=5) as client:
            client.ping()
        try:
            return prepare(console)
        finally:
            # This process runs as long as the service and needs no connection any more.
            connections.close_all()

    @staticmethod
    def _serve(console: Console, servers: EmbeddedServers, created: FirstRun | None) -> int:
        specs = service_processes(
            settings.INFERENCE_HOST, settings.INFERENCE_PORT, settings.BRIGADE_HOME
        )
        names = [spec.name for spec in specs]
        screen = Screen(console, settings.BRIGADE_HOME / "logs", names)
        watch = ReadinessWatch(base_url(), screen, partial(_show_ready, screen, created))
        try:
            return asyncio.run(Supervisor(specs, screen, servers, watch).run())
        finally:
            screen.close()


def service_processes(host: str, port: int, home: Path) -> list[ChildSpec]:
    """Return the processes of ``manage.py up``; the web process listens on ``host:port``."""

    def process(name: str, *arguments: str, **variables: str) -> ChildSpec:
        return ChildSpec(
            name=name,
            command=(sys.executable, "manage.py", *arguments),
            environment={"BRIGADE_HOME": str(home), **variables},
            directory=settings.BASE_DIR,
            stops_first=name == "web",
        )

    stop = ("--stop-seconds", f"{CLUSTER_STOP_SECONDS:g}")
    return [
        process("web", "web", "--host", host, "--port", str(port)),
        # django-q reads Q_CLUSTER_NAME when it is imported.
        process("models", "cluster", "models", *stop, Q_CLUSTER_NAME="models"),
        process("jobs", "cluster", "jobs", *stop, Q_CLUSTER_NAME="jobs"),
        process("controller", "controller"),
    ]


def _show_ready(screen: Screen, created: FirstRun | None) -> None:
    # A key is shown once only: later the shell reads it from the file of the first run.
    stored = f"$(grep -o 'sk-[^\"]*' {shlex.quote(str(first_run_path()))})"
    key = created.api_key if created else stored
    screen.say(f"\nReady at {base_url()}", "bold green")
    if created:
        screen.say(
            f"API key (shown once): {created.api_key}\n"
            f"Admin: {base_url()}/admin/  user {created.admin_user}, "
            f"password {created.admin_password}\n"
            f"Both are also in {first_run_path()}"
        )
    elif first_run_path().is_file():
        screen.say(f"The API key of the first run is in {first_run_path()}")
    screen.say("Try:", "default")
    screen.say(example_request(base_url(), key), "default")


def example_request(url: str, key: str) -> str:
    """Return a first request for a shell, on one line so that it can be pasted."""
    # max_tokens: one answer in forty of so small a model repeats itself and would not end.
    messages = '[{"role": "user", "content": "Hello!"}]'
    body = f'{{"model": "smollm2-135m", "max_tokens": 200, "messages": {messages}}}'
    return (
        f'curl {url}/v1/chat/completions -H "Authorization: Bearer {key}" '
        f"-H \"Content-Type: application/json\" -d '{body}'\n"
    )
