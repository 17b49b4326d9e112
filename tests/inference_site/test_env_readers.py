"""Reading the environment: accepted values, and errors that name the variable."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured

from inference_site.env import Environment, read_dotenv


def env(value: str | None) -> Environment:
    return Environment({} if value is None else {"NAME": value})


@pytest.mark.parametrize(("value", "read"), [(None, "d"), ("", "d"), ("x", "x"), (" ", " ")])
def test_text_falls_back_when_unset_or_empty(value: str | None, read: str):
    assert env(value).text("NAME", "d") == read


@pytest.mark.parametrize("value", ["1", "true", "YES", " on "])
def test_boolean_true(value: str):
    assert env(value).boolean("NAME", False) is True


@pytest.mark.parametrize("value", ["0", "false", "No", "off", ""])
def test_boolean_false(value: str):
    assert env(value).boolean("NAME", True) is False


@pytest.mark.parametrize("default", [True, False])
def test_boolean_unset_is_the_default(default: bool):
    assert env(None).boolean("NAME", default) is default


@pytest.mark.parametrize(("value", "read"), [(None, 7), ("", 7), ("1", 1), ("9", 9), (" 5 ", 5)])
def test_integer_within_its_bounds(value: str | None, read: int):
    assert env(value).integer("NAME", 7, 1, 9) == read


@pytest.mark.parametrize(("value", "read"), [(None, 7.0), ("", 7.0), ("0.5", 0.5), ("9", 9.0)])
def test_seconds_within_their_bounds(value: str | None, read: float):
    assert env(value).number("NAME", 7, 0.5, 9) == read


@pytest.mark.parametrize(("value", "read"), [(None, "a"), ("", "a"), ("b", "b")])
def test_choice_of_the_allowed(value: str | None, read: str):
    assert env(value).choice("NAME", "a", ("a", "b")) == read


@pytest.mark.parametrize(
    ("value", "read"), [(None, ["d"]), ("a", ["a"]), (" a, b ,,", ["a", "b"]), (",", [])]
)
def test_words_drop_blanks(value: str | None, read: list[str]):
    assert env(value).words("NAME", "d") == read


@pytest.mark.parametrize(
    ("value", "read"),
    [
        (None, {}),
        ("", {}),
        ('{"a": ["x", "y"], "b": []}', {"a": ("x", "y"), "b": ()}),
    ],
)
def test_word_lists_are_a_json_object(value: str | None, read: dict[str, tuple[str, ...]]):
    assert env(value).word_lists("NAME") == read


@pytest.mark.parametrize(
    ("value", "read"), [(None, "UTC"), ("", "UTC"), ("Asia/Kathmandu", "Asia/Kathmandu")]
)
def test_time_zone_of_the_database(value: str | None, read: str):
    assert env(value).time_zone("NAME", "UTC") == read


def test_unread_names_were_set_and_never_read():
    values = {"MY_LONG_NAME": "1", "MY_LONG_NAM": "1", "MY_OTHER": "", "ELSE": "1"}
    environment = Environment(values)
    environment.integer("MY_LONG_NAME", 1, 1, 9)
    environment.text("MY_THIRD")
    assert environment.unread("MY_") == {"MY_LONG_NAM": "MY_LONG_NAME", "MY_OTHER": ""}


@pytest.mark.parametrize(
    ("read", "value"),
    [
        (lambda e: e.word_lists("NAME"), "fast=a"),
        (lambda e: e.word_lists("NAME"), '["a"]'),
        (lambda e: e.word_lists("NAME"), '{"a": "fast"}'),
        (lambda e: e.word_lists("NAME"), '{"a": [1]}'),
        (lambda e: e.boolean("NAME", True), "maybe"),
        (lambda e: e.integer("NAME", 1, 1, 9), "x"),
        (lambda e: e.integer("NAME", 1, 1, 9), "1.5"),
        (lambda e: e.integer("NAME", 1, 1, 9), "0"),
        (lambda e: e.integer("NAME", 1, 1, 9), "10"),
        (lambda e: e.number("NAME", 1, 1, 9), "x"),
        (lambda e: e.number("NAME", 1, 1, 9), "0.9"),
        (lambda e: e.number("NAME", 1, 1, 9), "nan"),
        (lambda e: e.number("NAME", 1, 1, 9), "inf"),
        (lambda e: e.choice("NAME", "a", ("a", "b")), "c"),
        (lambda e: e.time_zone("NAME", "UTC"), "Europe"),
        (lambda e: e.time_zone("NAME", "UTC"), "Europe/Berlim"),
        (lambda e: e.time_zone("NAME", "UTC"), "+02:00"),
        (lambda e: e.time_zone("NAME", "UTC"), "../UTC"),
    ],
)
def test_bad_value_is_refused_with_name_and_value(read: Callable[[Environment], Any], value: str):
    with pytest.raises(ImproperlyConfigured) as error:
        read(env(value))
    assert "NAME" in str(error.value)
    assert value in str(error.value)


@pytest.fixture
def dotenv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Read a file of this content; the environment is as before afterwards."""
    monkeypatch.setattr(os, "environ", {"SET": "before"})

    def read(content: str) -> None:
        path = tmp_path / ".env"
        path.write_text(content)
        read_dotenv(path)

    return read


def test_dotenv_sets_what_is_not_set(dotenv: Callable[[str], None]):
    dotenv("# comment\n\nA=1\nexport B = 'two words' \nC=\"x=y\"\nSET=after\nEMPTY=\n")
    expected = {"SET": "before", "A": "1", "B": "two words", "C": "x=y", "EMPTY": ""}
    assert {name: os.environ.get(name) for name in expected} == expected


@pytest.mark.parametrize("line", ["nonsense", "=value", " = x"])
def test_dotenv_names_the_line_it_cannot_read(dotenv: Callable[[str], None], line: str):
    with pytest.raises(ImproperlyConfigured, match=r"\.env:2"):
        dotenv(f"A=1\n{line}\n")


def test_missing_dotenv_is_no_error(tmp_path: Path):
    read_dotenv(tmp_path / ".env")
