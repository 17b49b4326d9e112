"""Values that are JSON in the database and words in forms."""

import pytest
from django.core.exceptions import ValidationError

from models_registry.admin.fields import BudgetsField, WordsField

GIB, MIB = 1 << 30, 1 << 20


@pytest.mark.parametrize(
    ("text", "words"),
    [("chat, tools", ["chat", "tools"]), (" en ,, de,", ["en", "de"]), ("", []), (None, [])],
)
def test_words_are_read(text: str | None, words: list[str]) -> None:
    assert WordsField().clean(text) == words


def test_words_are_written_as_they_are_read() -> None:
    field = WordsField()
    assert field.prepare_value(["a", "b"]) == "a, b"
    assert not field.has_changed(["a", "b"], "a,b")
    assert field.has_changed(["a", "b"], "b, a")


@pytest.mark.parametrize(
    ("text", "budgets"),
    [
        ("cpu: 8 GiB", {"cpu": 8 * GIB}),
        ("cpu: 1.5 GiB\n\ncuda:0: 512 MiB\n", {"cpu": 1536 * MIB, "cuda:0": 512 * MIB}),
        ("", {}),
    ],
)
def test_budgets_are_read(text: str, budgets: dict[str, int]) -> None:
    assert BudgetsField().clean(text) == budgets


@pytest.mark.parametrize("text", ["cpu 8 GiB", "cpu: 8", "cpu: 8 GB", "cpu: -1 GiB", "nonsense"])
def test_budgets_in_other_words_are_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValidationError, match="cpu: 8 GiB"):
        BudgetsField().clean(text)


@pytest.mark.parametrize("count", [8 * GIB, 1536 * MIB, 512 * MIB, 8_000_000_000, 123_456_789])
def test_budgets_are_written_so_that_nothing_is_lost(count: int) -> None:
    field = BudgetsField()
    written = field.prepare_value({"cpu": count})
    assert field.clean(written) == {"cpu": count}
    assert not field.has_changed({"cpu": count}, written)
