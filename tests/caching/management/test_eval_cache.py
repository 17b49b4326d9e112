"""``manage.py eval_cache``."""

from io import StringIO
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command

from caching.management.commands import eval_cache


def test_eval_cache_reports_each_kind():
    out = StringIO()
    call_command("eval_cache", stdout=out)
    report = out.getvalue()
    for kind in ("near_repeat", "chat: context_swap", "question word", "typo"):
        assert kind in report


def test_eval_cache_fails_if_a_trap_of_a_file_is_served(tmp_path: Path):
    path = tmp_path / "own.tsv"
    path.write_text("trap\tunit\tIs it far?\tis it far\nhit\tcase\tIs it far?\tis it far\n")
    out = StringIO()
    with pytest.raises(CommandError, match=r"own.tsv: 1 traps of the kind unit are served"):
        call_command("eval_cache", pairs=path, stdout=out)
    assert "not installed" not in out.getvalue()


@pytest.mark.parametrize("line", ["hit\tcase\tIs it far?", "maybe\tcase\ta\tb"])
def test_eval_cache_names_a_line_that_is_no_pair(tmp_path: Path, line: str):
    path = tmp_path / "own.tsv"
    path.write_text(f"hit\tcase\ta\tA\n{line}\n")
    with pytest.raises(CommandError, match=r"own.tsv: line 2"):
        call_command("eval_cache", pairs=path)


def test_eval_cache_says_that_fow_cache_is_not_installed(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(eval_cache, "fow_cache_pairs", lambda: iter(()))
    out = StringIO()
    call_command("eval_cache", stdout=out)
    assert "fow-cache is not installed" in out.getvalue()
