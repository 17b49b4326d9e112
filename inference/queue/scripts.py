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
    """A script on a connection of its own, for the call that is made at every token.

    It bypasses the client's pool, retries and telemetry, which cost several times as much. The
    script must bear being run twice: after a dead connection it is called again.
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
