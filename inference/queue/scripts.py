"""Lua sources beside this file; each runs atomically inside Redis."""

import hashlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import redis
from redis.exceptions import NoScriptError


@cache
def script(name: str) -> str:
    return (Path(__file__).parent / f"{name}.lua").read_text()


class DirectScript:
    """A script on a connection of its own, without the cost of the client's pool and telemetry.

    After a dead connection it is called once more, so it must bear being run twice.
    """

    def __init__(self, client: redis.Redis, text: str) -> None:
        self._pool = client.connection_pool
        self._text = text
        self._digest = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
        self._connection: redis.Connection | None = None

    def __call__(self, keys: Sequence[str], args: Sequence[Any]) -> Any:
        arguments = (len(keys), *keys, *args)
        try:
            return self._call("EVALSHA", self._digest, *arguments)
        except NoScriptError:
            return self._call("EVAL", self._text, *arguments)
        except redis.ConnectionError:
            return self._call("EVALSHA", self._digest, *arguments)

    def _call(self, *command: Any) -> Any:
        if self._connection is None:
            self._connection = self._pool.get_connection()
        # After an error the connection closes itself, and opens again when it is next used.
        self._connection.send_command(*command)
        return self._connection.read_response()
