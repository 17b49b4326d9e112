from typing import Any

from django.apps import AppConfig
from django.core import checks
from django.db import connection


def check_vectors(databases: Any = None, **_kwargs: Any) -> list[checks.CheckMessage]:
    """Warn of a slower search. Databases are checked by ``manage.py migrate``."""
    from caching.semantic.store import has_pgvector

    exists = databases and "caching_semanticvector" in connection.introspection.table_names()
    if not exists or has_pgvector():
        return []
    text = "The semantic cache searches with NumPy: Postgres has no pgvector 0.7 that it may use."
    hint = (
        "Let a superuser of Postgres run CREATE EXTENSION vector, then migrate caching to 0001 and "
        "forward again, which empties this cache, and restart."
    )
    return [checks.Warning(text, hint, id="caching.W001")]


class CachingConfig(AppConfig):
    """Caches of answers and embeddings."""

    name = "caching"

    def ready(self) -> None:
        checks.register(check_vectors, checks.Tags.database)
