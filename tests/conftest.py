"""Fixtures that several apps' tests share."""

from hypothesis import settings

from tests.model_files import minilm_path, smollm2_path
from tests.published_templates import published_templates

__all__ = ["minilm_path", "published_templates", "smollm2_path"]

# A deadline per example measures what else the machine does.
settings.register_profile("brigade", deadline=None)
settings.load_profile("brigade")
