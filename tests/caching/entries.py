"""Stored answers for tests, and the two forms of their vectors."""

import importlib
import itertools
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from django.db import connection
from django.utils import timezone

from caching.models import CacheVerdict, SemanticEntry
from caching.semantic import store, verdicts
from caching.semantic.store import Hit, Vector

MIGRATION = importlib.import_module("caching.migrations.0002_pgvector")
MINE, THEIRS = b"p" * 32, b"q" * 32
FACTS, OTHER_FACTS = b"f" * 32, b"g" * 32
_numbers = itertools.count()


def vector(*values: float) -> Vector:
    return np.array(values or (1, 0, 0), np.float32)


def entry(**fields: Any) -> SemanticEntry:
    """An answer that lives for an hour, not saved."""
    number = next(_numbers)
    defaults = {
        "key": f"{number:064x}",
        "partition": MINE,
        "facts_digest": FACTS,
        "user_id": 7,
        "version_key": "m@v1",
        "prompt": f"question {number}",
        "answer": b"frames",
        "answer_text": "It rains.",
        "completion_tokens": 9,
        "expires_at": timezone.now() + timedelta(hours=1),
    }
    return SemanticEntry(**(defaults | fields))


def added(v: Vector | None = None, **fields: Any) -> SemanticEntry:
    made = entry(**fields)
    assert store.add(made, vector() if v is None else v)
    return made


def anything(_prompt: str) -> str:
    return ""


def find(
    v: Vector | None = None,
    partition: bytes = MINE,
    facts: bytes = FACTS,
    floor: float = 0.75,
    guard: Callable[[str], str] = anything,
    age: timedelta = timedelta(days=1),
) -> Hit | None:
    wanted = vector() if v is None else v
    return store.find(partition, facts, wanted, floor, timezone.now() - age, guard)


def compared(made: SemanticEntry, answer_text: str, **fields: Any) -> CacheVerdict:
    """The comparison of an answer with another, whose vector is unlike it."""
    defaults = {"prompt": "asked", "similarity": 0.9, "user_id": 8}
    verdict = CacheVerdict(entry=made, answer_text=answer_text, **(defaults | fields))
    verdicts.record(verdict, likeness=0.1)
    return verdict


def set_form(form: str) -> None:
    """Give the empty table of vectors the form, inside the transaction of the test."""
    migrate = MIGRATION.use_pgvector if form == "halfvec" else MIGRATION.use_numpy
    with connection.schema_editor() as editor:
        migrate(None, editor)
    store.has_pgvector.cache_clear()


@pytest.fixture
def patience(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No search of a busy machine is cut short; nothing is known from tests before."""
    monkeypatch.setattr(store, "FIND_MILLISECONDS", 5000)
    monkeypatch.setattr(verdicts, "FIND_MILLISECONDS", 5000)
    store.has_pgvector.cache_clear()
    verdicts._tallies.clear()
    yield
    store.has_pgvector.cache_clear()


@pytest.fixture(params=["halfvec", "bytea"])
def form(request: pytest.FixtureRequest, patience: None, db: None) -> str:
    """Each form of the vectors, where Postgres has it."""
    set_form(request.param)
    if request.param == "halfvec" and not store.has_pgvector():
        pytest.skip("This Postgres has no pgvector.")
    return request.param
