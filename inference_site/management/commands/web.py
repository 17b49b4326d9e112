"""``manage.py web``: serve HTTP and WebSocket."""

import logging
from argparse import ArgumentParser
from typing import Any

import uvicorn
from django.conf import settings
from django.core.management.base import BaseCommand

from inference_site.access_log import is_no_own_poll
from inference_site.http_protocol import HttpProtocol

# The supervisor kills after three seconds: what still runs then is told a moment before.
STOP_SECONDS = 2
# Longer than what clients and proxies keep connections for, so that they do not meet a closed one.
KEEP_ALIVE_SECONDS = 75


class Command(BaseCommand):
    """Runs the web server until told to stop."""

    help = "Serve the API, WebSockets and the admin."
    requires_system_checks = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Where to listen."""
        parser.add_argument("--host", default=settings.INFERENCE_HOST)
        parser.add_argument("--port", type=int, default=settings.INFERENCE_PORT)

    def handle(self, *args: Any, host: str, port: int, **options: Any) -> None:
        """Listen until SIGINT or SIGTERM."""
        # The first of all filters: the one of the settings cuts the query, which this one looks at.
        logging.getLogger("uvicorn.access").filters.insert(0, is_no_own_poll)
        uvicorn.run(
            "inference_site.asgi:application",
            host=host,
            port=port,
            loop="uvloop",
            http=HttpProtocol,
            ws="websockets-sansio",
            # Somewhat more than is taken, so that what is too large gets an answer that says so.
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
