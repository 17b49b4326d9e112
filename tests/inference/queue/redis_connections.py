"""Connections to Redis that a test can find and cut."""

import uuid
from typing import Any

import redis
from django.conf import settings


def new_client_name() -> str:
    """A name for the connections of one client."""
    return f"cut-{uuid.uuid4().hex}"


def cut_connections(client_name: str) -> int:
    """Kill every connection with a name; returns how many there were."""
    with redis.Redis.from_url(settings.REDIS_URL) as client:
        listed: Any = client.client_list()
        ids = [entry["id"] for entry in listed if entry["name"] == client_name]
        for client_id in ids:
            client.client_kill_filter(_id=client_id)
    return len(ids)
