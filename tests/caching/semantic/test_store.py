"""Entries: found by group, vector and guard; bounded, forgotten, and never in the way."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import numpy as np
import psycopg
import pytest
from django.db import connection
from django.utils import timezone

from caching.models import CacheVerdict, SemanticEntry, SemanticVector
from caching.semantic import store
from tests.caching.entries import (
    FACTS,
    MINE,
    OTHER_FACTS,
    THEIRS,
    added,
    compared,
    entry,
    find,
    form,
    patience,
    vector,
)

__all__ = ["form", "patience"]
pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("patience")]
NOW = timezone.now()


def keys() -> set[str]:
    return set(SemanticEntry.objects.values_list("key", flat=True))


def test_find_gives_the_nearest_answer_with_its_similarity(form: str) -> None:
    added(vector(0.8, 0.6, 0))
    near = added(vector(0.96, 0.28, 0), answer=b"\x00frames", answer_text="Yes.")
    hit = find()
    assert hit is not None
    assert hit.entry == near
    assert (bytes(hit.entry.answer), hit.entry.answer_text) == (b"\x00frames", "Yes.")
    assert hit.similarity == pytest.approx(0.96, abs=0.002)


def test_find_gives_nothing_below_the_floor(form: str) -> None:
    added(vector(0.6, 0.8, 0))
    assert find(floor=0.75) is None
    assert find(floor=0.5) is not None


def test_find_knows_no_length_of_vectors_but_the_groups_own(form: str) -> None:
    """Embedders follow each other: each has partitions of its own."""
    added(vector(1, 0))
    added(vector(0, 0, 0, 1), partition=THEIRS)
    assert find(vector(1, 0)) is not None
    assert find(vector(0, 0, 0, 1), partition=THEIRS) is not None


@pytest.mark.parametrize("bad", [(0, 0, 0), (float("nan"), 1, 0)])
def test_find_gives_nothing_for_a_vector_without_direction(form: str, bad: Any) -> None:
    added()
    added(vector(0, 0, 0))
    assert find(vector(*bad)) is None
    assert find() is not None


def test_find_never_gives_answers_of_other_groups(form: str) -> None:
    added(partition=THEIRS)
    added(facts_digest=OTHER_FACTS)
    assert find() is None


def test_find_gives_the_first_that_the_guard_lets_pass_out_of_five(form: str) -> None:
    for step in range(7):
        added(vector(1, step / 100, 0), prompt=f"question at {step}")
    seen: list[str] = []

    def guard(prompt: str) -> str:
        seen.append(prompt)
        return "" if prompt == "question at 2" else "another number"

    hit = find(guard=guard)
    assert hit is not None
    assert hit.entry.prompt == "question at 2"
    assert seen == [f"question at {step}" for step in range(3)]
    seen.clear()
    assert find(guard=lambda prompt: guard(prompt) or "no") is None
    assert len(seen) == 5


def test_find_gives_no_answer_whose_time_is_over(form: str) -> None:
    added(expires_at=NOW - timedelta(seconds=1))
    assert find() is None


def test_find_counts_hits(form: str) -> None:
    made = added(last_hit_at=NOW - timedelta(days=1))
    find()
    find()
    made.refresh_from_db()
    assert made.hits == 2
    assert made.last_hit_at > NOW - timedelta(hours=1)


def test_find_among_100_000_rows_finds_its_own_100_times_of_100(db: None) -> None:
    fill(100_000)
    drawn = np.random.default_rng(1).normal(size=(100, 32)).astype(np.float32)
    found = []
    for number, v in enumerate(drawn):
        # Only the last one has the very vector; each of the rest is in another user's partition.
        mine = added(v, partition=MINE)
        added(v, partition=THEIRS)
        hit = find(v, floor=0.9)
        found.append(hit is not None and hit.entry == mine)
        if number >= 3:
            store.forget(key=mine.key)
    assert found == [True] * 100
    assert all(find(v, partition=MINE, floor=0.999) is None for v in drawn[3:])


def fill(rows: int) -> None:
    """Entries of 50 partitions that have the own facts."""
    kind = "halfvec" if store.has_pgvector() else "bytea"
    values = "(SELECT array_agg(random() - 0.5) FROM generate_series(1, 32 + 0 * id))::real[]"
    value = {
        "halfvec": f"{values}::halfvec",
        "bytea": "substring(sha512(id::text::bytea) || sha512(id::text::bytea), 1, 64)",
    }[kind]
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO caching_semanticentry (key, partition, facts_digest, user_id, end_user, "
            "version_key, preset, prompt, answer, answer_text, completion_tokens, created_at, "
            "expires_at, last_hit_at, hits, state) "
            "SELECT 'other' || n, sha256((n %% 50)::text::bytea), %s, 9, '', 'm@v1', '', "
            "'question', '', '', 9, now(), now() + interval '1 hour', now(), 0, 'live' "
            "FROM generate_series(1, %s) AS n",
            [FACTS, rows],
        )
        cursor.execute(
            "INSERT INTO caching_semanticvector (entry_id, partition, facts_digest, live_until, v) "
            f"SELECT id, partition, facts_digest, expires_at, {value} "
            "FROM caching_semanticentry"
        )


def test_add_replaces_the_answer_of_the_same_key(form: str) -> None:
    old = added(prompt="question", answer_text="old")
    new = added(prompt="question", answer_text="new", key=old.key)
    assert list(SemanticEntry.objects.all()) == [new]
    hit = find()
    assert hit is not None
    assert hit.entry.answer_text == "new"


@pytest.mark.parametrize("state", ["suspect", "refused"])
def test_add_takes_no_new_answer_where_the_old_one_is_in_doubt(state: str) -> None:
    old = added(state=state)
    assert not store.add(entry(key=old.key), vector())
    assert list(SemanticEntry.objects.all()) == [old]


def test_add_makes_room_in_a_full_group(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "GROUP_ENTRIES", 10 if form == "halfvec" else 50)
    apart = {
        added(facts_digest=OTHER_FACTS, last_hit_at=NOW - timedelta(days=99)).key,
        added(partition=THEIRS, last_hit_at=NOW - timedelta(days=99)).key,
    }
    days = (5, 9, 1, 10, 2, 3, 4, 6, 7, 8, 0)
    group = {day: added(last_hit_at=NOW - timedelta(days=day)).key for day in days}
    assert keys() == apart | {group[day] for day in range(9)}
    assert SemanticVector.objects.count() == 2 + 9


FORGOTTEN: dict[str, dict[str, Any]] = {
    "version": {"version": "m@v2"},
    "preset": {"preset": "fast"},
    "no preset": {"preset": "", "user": 8},
    "user": {"user": 8},
    "end user": {"user": 7, "end_user": "alice"},
    "age": {"older_than": NOW - timedelta(hours=1)},
    "key": {"key": "abcdef"},
}
MATCHING: dict[str, dict[str, Any]] = {
    "version": {"version_key": "m@v2"},
    "preset": {"preset": "fast"},
    "no preset": {"user_id": 8},
    "user": {"user_id": 8},
    "end user": {"end_user": "alice"},
    "age": {"created_at": NOW - timedelta(hours=2)},
    "key": {"key": "abcdef".ljust(64, "0")},
}


@pytest.mark.parametrize("by", FORGOTTEN)
def test_forget_deletes_what_fulfils_the_conditions(form: str, by: str) -> None:
    other = added(end_user="bob")
    for _ in range(1 if by == "key" else 2):
        added(**MATCHING[by])
    assert store.forget(**FORGOTTEN[by]) == (1 if by == "key" else 2)
    assert keys() == {other.key}
    assert SemanticVector.objects.count() == 1


def test_forget_needs_all_conditions() -> None:
    kept = [added(version_key="m@v2"), added(user_id=8)]
    added(version_key="m@v2", user_id=8)
    assert store.forget(version="m@v2", user=8) == 1
    assert keys() == {one.key for one in kept}


def test_forget_without_conditions_forgets_all() -> None:
    added()
    added(user_id=8)
    assert store.forget() == 2


def test_forget_empties_the_texts_of_comparisons_and_keeps_their_results() -> None:
    made = added(user_id=7, end_user="alice")
    mine = compared(made, "It snows.", user_id=8)
    theirs = compared(added(user_id=9), "It snows.", user_id=7, end_user="alice")
    kept = compared(added(user_id=9), "It snows.", user_id=9)
    store.forget(user=7, end_user="alice")
    for verdict, texts in ((mine, ("", "")), (theirs, ("", "")), (kept, ("asked", "It snows."))):
        verdict.refresh_from_db()
        assert (verdict.prompt, verdict.answer_text, verdict.agrees) == (*texts, None)
    assert mine.entry is None
    assert theirs.entry is not None


def test_forget_takes_few_statements_for_many_entries(django_assert_num_queries: Any) -> None:
    for _ in range(30):
        added(version_key="m@v2")
    with django_assert_num_queries(5):  # a savepoint and its release among them
        assert store.forget(version="m@v2") == 30


def test_expire_deletes_answers_whose_time_is_over(form: str) -> None:
    kept = added()
    added(expires_at=NOW - timedelta(seconds=1))
    added(expires_at=NOW - timedelta(seconds=1), state="refused")
    assert store.expire(NOW) == 2
    assert keys() == {kept.key}


def test_expire_keeps_an_open_comparison_for_a_month() -> None:
    added(expires_at=NOW - timedelta(days=29), state="suspect")
    added(expires_at=NOW - timedelta(days=31), state="suspect")
    assert store.expire(NOW) == 1


def test_expire_keeps_the_newest_comparisons_of_each_version_and_preset(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(store, "_KEPT_VERDICTS", 2)
    made = [added(), added(preset="fast")]
    for days in (1, 3, 0):
        for one in made:
            compared(one, "It rains.", at=NOW - timedelta(days=days))
    store.expire(NOW)
    left = CacheVerdict.objects.values_list("preset", "at")
    assert sorted(left) == [
        (preset, NOW - timedelta(days=days)) for preset in ("", "fast") for days in (1, 0)
    ]


def test_vector_of_another_length_is_a_miss(form: str, caplog: pytest.LogCaptureFixture) -> None:
    added()
    assert find(vector(1, 0)) is None
    assert len(caplog.records) == (1 if form == "halfvec" else 0)
    assert find() is not None


def test_add_that_fails_is_one_line_without_a_prompt(caplog: pytest.LogCaptureFixture) -> None:
    made = entry(prompt="my \x00 secret")
    assert not store.add(made, vector())
    assert not store.add(entry(version_key="v" * 161), vector())
    assert [record.levelname for record in caplog.records] == ["WARNING"] * 2
    assert not [record for record in caplog.records if "secret" in record.message]
    assert not SemanticEntry.objects.exists()


@pytest.fixture
def other_connection(transactional_db: None) -> Iterator[psycopg.Connection[Any]]:
    """Another process in Postgres."""
    own = connection.get_connection_params()
    names = ("host", "port", "dbname", "user", "password")
    with psycopg.connect(**{name: own[name] for name in names if name in own}) as other:
        yield other


def test_find_gives_up_soon_where_postgres_is_slow(
    other_connection: psycopg.Connection[Any],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    added()
    monkeypatch.setattr(store, "FIND_MILLISECONDS", 60)
    other_connection.execute("LOCK TABLE caching_semanticvector IN ACCESS EXCLUSIVE MODE")
    assert find() is None
    assert ["statement timeout" in record.message for record in caplog.records] == [True]
    other_connection.rollback()
    monkeypatch.setattr(store, "FIND_MILLISECONDS", 5000)
    assert find() is not None
    with connection.cursor() as cursor:
        cursor.execute("SHOW statement_timeout")
        assert cursor.fetchone() == ("0",)


def test_find_does_not_wait_for_another_hit_of_the_entry(
    other_connection: psycopg.Connection[Any],
) -> None:
    made = added()
    other_connection.execute("UPDATE caching_semanticentry SET hits = hits + 1")
    assert find() is not None
    other_connection.commit()
    find()
    made.refresh_from_db()
    assert made.hits == 2


def test_everything_is_a_miss_while_postgres_is_away(
    transactional_db: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    added()
    connection.close()
    with monkeypatch.context() as patched:
        patched.setitem(connection.settings_dict, "PORT", "1")
        patched.setitem(connection.settings_dict, "HOST", "127.0.0.1")
        assert find() is None
        assert not store.add(entry(), vector())
        connection.close()
    assert ["\n" in record.message for record in caplog.records] == [False, False]
    assert find() is not None


def test_find_gives_no_answer_older_than_asked_for() -> None:
    added(created_at=timezone.now() - timedelta(minutes=2))
    assert find(age=timedelta(minutes=1)) is None
    assert find(age=timedelta(minutes=3)) is not None
