"""Fixtures that several apps' tests share, and the end of the run: no process may be left."""

import pytest
from hypothesis import settings

from tests.leftovers import Leftovers
from tests.model_files import minilm_path, smollm2_path
from tests.published_templates import published_templates

__all__ = ["minilm_path", "published_templates", "smollm2_path"]

# A deadline per example measures what else the machine does.
settings.register_profile("brigade", deadline=None)
settings.load_profile("brigade")

_leftovers = Leftovers()


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail a run that leaves processes behind, and name them with their tests."""
    if lines := _leftovers.described():
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
        reporter = session.config.pluginmanager.get_plugin("terminalreporter")
        reporter.section("processes left behind", red=True)
        for line in lines:
            reporter.line(line, red=True)
