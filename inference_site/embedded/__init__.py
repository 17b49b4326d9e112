"""Postgres and Valkey from Python wheels, for a machine without servers of its own.

Each server is the child of a small watchdog process (``watchdog.py``), which restarts it when it
dies. Processes that need a server *hold* it with a shared file lock (``lifecycle.py``). When the
last holder ends, even by ``kill -9``, the kernel drops the lock and the watchdog stops the server.

Nothing here imports Django, so the servers can run before Django reads its settings.
"""


class EmbeddedServerError(Exception):
    """An embedded server cannot be started, reached or stopped; the text says what to do."""
