"""Postgres and Valkey from Python wheels, for a machine that has neither.

Processes that need the servers *hold* them with a shared file lock (``lifecycle.py``). Each server
is the child of a small keeper process (``keeper.py``) that starts it, starts it again when it dies,
and stops it when the last holder has gone, however that holder went: the kernel drops a file lock
even on ``kill -9``.

Nothing here imports Django, so the servers can be up before Django reads its settings.
"""
