"""``manage.py eval_cache``."""

from io import StringIO

import pytest
from django.core.management import CommandError, call_command

from caching.evaluation.measure import OURS, Pair
from caching.management.commands import eval_cache


def test_eval_cache_reports_each_kind():
    out = StringIO()
    call_command("eval_cache", stdout=out)
    report = out.getvalue()
    for kind in ("near_repeat", "chat: context_swap", "question word", "typo"):
        assert kind in report


def test_eval_cache_fails_if_a_trap_is_served(monkeypatch: pytest.MonkeyPatch):
    trap = Pair(OURS, "unit", trap=True, a="Is it far?", b="is it far")
    monkeypatch.setattr(eval_cache, "repository_pairs", lambda: iter([trap]))
    with pytest.raises(CommandError, match="1 traps of the kind unit are served"):
        call_command("eval_cache", stdout=StringIO())


def test_eval_cache_says_that_fow_cache_is_not_installed(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(eval_cache, "fow_cache_pairs", lambda: iter(()))
    out = StringIO()
    call_command("eval_cache", stdout=out)
    assert "fow-cache is not installed" in out.getvalue()
