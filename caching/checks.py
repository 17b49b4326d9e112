"""A check of the database, which ``manage.py migrate`` runs."""

from typing import Any

from django.core.checks import CheckMessage, Tags, register
from django.core.checks import Warning as CheckWarning
from django.db import connection

from caching.semantic.store import has_pgvector

_TEXT = "The semantic cache searches with NumPy: Postgres has no pgvector 0.7 that it may use."
_HINT = (
    "Let a superuser of Postgres run CREATE EXTENSION vector, then migrate caching to 0001 and "
    "forward again, which empties this cache, and restart."
)


@register(Tags.database)
def check_vectors(databases: Any = None, **_kwargs: Any) -> list[CheckMessage]:
    """Warn of the slower search; before the first migration there is none."""
    exists = databases and "caching_semanticvector" in connection.introspection.table_names()
    return [CheckWarning(_TEXT, _HINT, id="caching.W001")] if exists and not has_pgvector() else []
