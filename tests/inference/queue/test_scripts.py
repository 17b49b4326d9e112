"""A script on a connection of its own."""

from collections.abc import Iterator

import pytest
import redis
from django.conf import settings

from inference.queue.scripts import DirectScript
from tests.inference.queue.redis_connections import cut_connections, new_client_name

ECHO = "return {KEYS[1], ARGV[1]}"


@pytest.fixture
def client() -> Iterator["redis.Redis"]:
    with redis.Redis.from_url(settings.REDIS_URL, client_name=new_client_name()) as client:
        yield client


def test_direct_script_gives_keys_and_arguments(client: "redis.Redis") -> None:
    assert DirectScript(client, ECHO)(["name"], [7]) == [b"name", b"7"]


def test_direct_script_is_sent_again_when_redis_has_forgotten_it(client: "redis.Redis") -> None:
    script = DirectScript(client, ECHO + " -- forgotten")
    for _ in range(2):
        client.script_flush()
        assert script(["name"], ["a"]) == [b"name", b"a"]


def test_direct_script_bears_a_cut_connection(client: "redis.Redis") -> None:
    script = DirectScript(client, ECHO)
    script(["name"], ["a"])
    assert cut_connections(client.get_connection_kwargs()["client_name"])
    assert script(["name"], ["b"]) == [b"name", b"b"]


def test_direct_script_raises_what_the_script_says(client: "redis.Redis") -> None:
    with pytest.raises(redis.ResponseError, match="full up"):
        DirectScript(client, "return redis.error_reply('ERR full up')")(["name"], [])
