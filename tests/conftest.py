"""Fixtures that several apps' tests share."""

from hypothesis import settings

from tests.model_files import minilm_path, smollm2_path

__all__ = ["minilm_path", "smollm2_path"]

# A deadline per example measures what else the machine does.
settings.register_profile("brigade", deadline=None)
settings.load_profile("brigade")
