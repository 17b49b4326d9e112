"""The form of vectors: pgvector's where the database has it and allows it, else NumPy's."""

import logging
from typing import Any

import pytest
from django.core.checks import Tags, run_checks
from django.db import connection

from caching.models import SemanticEntry
from caching.semantic import store
from tests.caching.entries import MIGRATION, added, find, form, patience, set_form

__all__ = ["form", "patience"]
pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("patience")]


def warnings() -> list[Any]:
    found = run_checks(tags=[Tags.database], databases=["default"])
    return [one for one in found if str(one.id).startswith("caching.")]


def storage_of_vectors() -> str:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT attstorage::text FROM pg_attribute "
            "WHERE attrelid = 'caching_semanticvector'::regclass AND attname = 'v'"
        )
        return str(cursor.fetchone()[0])


def test_vectors_lie_uncompressed_in_their_rows(form: str) -> None:
    assert storage_of_vectors() == "p"


def test_check_warns_of_the_slower_search_only(form: str) -> None:
    assert [one.id for one in warnings()] == ([] if form == "halfvec" else ["caching.W001"])


def test_check_is_silent_before_the_first_migration(form: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE caching_semanticvector RENAME TO away")
    assert warnings() == []


def test_migration_forward_and_back_empties_the_cache(form: str) -> None:
    added()
    set_form("bytea" if form == "halfvec" else "halfvec")
    assert not SemanticEntry.objects.exists()
    added()
    assert find() is not None


def assert_falls_back(caplog: pytest.LogCaptureFixture, reason: str) -> None:
    with caplog.at_level(logging.WARNING):
        set_form("halfvec")
    assert not store.has_pgvector()
    assert [reason in record.message for record in caplog.records] == [True]
    added()
    assert find() is not None


def test_migration_falls_back_where_postgres_has_no_pgvector(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    set_form("bytea")
    monkeypatch.setattr(MIGRATION, "EXTENSION", "absent_vector")
    assert_falls_back(caplog, 'extension "absent_vector" is not available')


def test_migration_falls_back_where_the_user_may_not_create_the_extension(
    caplog: pytest.LogCaptureFixture,
) -> None:
    set_form("bytea")
    with connection.cursor() as cursor:
        cursor.execute("DROP EXTENSION IF EXISTS vector")
        cursor.execute("CREATE ROLE plain")
        tables = "caching_semanticvector, caching_semanticentry, caching_cacheverdict"
        cursor.execute(f"GRANT ALL ON {tables}, caching_semanticentry_id_seq TO plain")
        cursor.execute("SET ROLE plain")
    assert_falls_back(caplog, 'permission denied to create extension "vector"')
