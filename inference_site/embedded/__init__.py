"""Postgres and Valkey from Python wheels, for a machine without servers of its own.

Each server is the child of a watchdog process, which restarts it when it dies. Processes that need
a server *hold* it with a shared file lock. When the last holder ends, even by ``kill -9``, the
kernel drops the lock and the watchdog stops the server. Nothing here imports Django.
"""


class EmbeddedServerError(Exception):
    """An embedded server cannot be started, reached or stopped; the text says what to do."""
