"""Rows in line that are sorted by dragging."""

import re

import pytest
from django.contrib.auth import get_user_model
from django.test import Client
from django.urls import reverse

from models_registry.models import Preset
from tests.models_registry.admin_pages import opened
from tests.models_registry.fleet_rows import a_version

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("table", ["modelversion", "model", "preset"])
def test_rows_have_a_handle_and_one_position_for_it_to_change(table: str) -> None:
    keeper = Client()
    keeper.force_login(get_user_model().objects.create_superuser("keeper", password="long enough"))
    version = a_version()
    version.sources.create(url="hf://a/b/c.gguf")
    version.model.fallbacks.create(target=a_version().model)
    preset = Preset.objects.create(name="X1", title="X", orchestration_mode="single")
    preset.members.create(model=version.model, role="generator")
    rows = {"modelversion": version, "model": version.model, "preset": preset}
    url = reverse(f"admin:models_registry_{table}_change", args=[rows[table].pk])
    cells = re.findall(r"<td.*?</td>", keeper.get(url).content.decode(), re.DOTALL)
    (with_handle,) = [cell for cell in cells if "x-sort:handle" in cell]
    assert "hidden!" not in with_handle.partition(">")[0]
    # unfold's script numbers all inputs whose names end so.
    numbered = [name for name in opened(keeper, url) if name.endswith("-position")]
    assert len(numbered) == 2, "of the row, and of the template for new ones"
