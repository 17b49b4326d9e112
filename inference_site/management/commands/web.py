"""``manage.py web``: serve HTTP and WebSocket."""

from argparse import ArgumentParser
from typing import Any

import uvicorn
from django.conf import settings
from django.core.management.base import BaseCommand

from inference_site.http_protocol import HttpProtocol

# The supervisor kills after three seconds; requests that still run are cancelled before that.
STOP_SECONDS = 2
# Longer than clients and proxies keep idle connections, so that they never use a closed one.
KEEP_ALIVE_SECONDS = 75


class Command(BaseCommand):
    help = "Serve the API, WebSockets and the admin."
    requires_system_checks = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--host", default=settings.INFERENCE_HOST)
        parser.add_argument("--port", type=int, default=settings.INFERENCE_PORT)

    def handle(self, *args: Any, host: str, port: int, **options: Any) -> None:
        uvicorn.run(
            "inference_site.asgi:application",
            host=host,
            port=port,
            loop="uvloop",
            http=HttpProtocol,
            ws="websockets-sansio",
            # More than the limit, so that a message over the limit gets an error event.
            ws_max_size=2 * settings.INFERENCE.max_body_bytes,
            # Deflating token by token would cost more than it saves.
            ws_per_message_deflate=False,
            lifespan="off",
            log_config=None,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=STOP_SECONDS,
        )
