"""The real model files, fetched once and kept."""

import os
from pathlib import Path
from typing import Any

import pytest
import yaml

import models_registry
from models_registry.sources import fetch

_SEED = Path(models_registry.__file__).parent / "seed" / "registry.yaml"


def model_file(slug: str) -> Path:
    """The file of a seeded model's default version, fetched unless it is there already."""
    version = _default_version(slug)
    directory = Path(os.environ["INFERENCE_MODELS_DIR"])
    return fetch(version["sources"][0], directory / version["file_name"], version["sha256"]).path


@pytest.fixture(scope="session")
def smollm2_path() -> Path:
    """SmolLM2-135M-Instruct."""
    return model_file("smollm2-135m")


@pytest.fixture(scope="session")
def minilm_path() -> Path:
    """all-MiniLM-L6-v2."""
    return model_file("all-minilm-l6-v2")


def _default_version(slug: str) -> dict[str, Any]:
    (model,) = (
        model for model in yaml.safe_load(_SEED.read_text())["models"] if model["slug"] == slug
    )
    result: dict[str, Any] = model["versions"][0]
    return result
