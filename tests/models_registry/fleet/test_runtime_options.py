"""Options of a version: what is refused, and what others are told."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from django.core.exceptions import ValidationError

from models_registry.catalogue.lookup import spec_of
from models_registry.fleet.footprints import options_of, placements_of
from models_registry.models import Model, ModelVersion
from tests.models_registry.fleet_rows import a_node, a_version

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"device": "cpu", "gpu_layers": 0},
        {"device": "cuda", "tensor_split": [3, 1]},
        {"device": "cuda:1", "gpu_layers": 10},
        {"device": "vulkan:0"},
        {"gpu_layers": 0},
        {"flash_attention": "off", "cache_type_k": "q8_0"},
        {"flash_attention": "on", "cache_type_k": "q4_0", "cache_type_v": "q4_0"},
        {"cache_type_v": "q8_0"},
        {"threads": 3, "speculation": "off"},
    ],
)
def test_sensible_options_are_taken(fields: dict[str, Any]) -> None:
    a_version(**fields).full_clean()


@pytest.mark.parametrize(
    ("fields", "field", "reason"),
    [
        ({"device": "CUDA"}, "device", "Write auto, cpu, cuda or cuda:0"),
        ({"device": "cpu:1"}, "device", "Write auto"),
        ({"device": "cuda:"}, "device", "Write auto"),
        ({"device": "gpu 1"}, "device", "Write auto"),
        ({"gpu_layers": -2}, "gpu_layers", "greater than or equal to -1"),
        ({"gpu_layers": 0, "device": "cuda"}, "gpu_layers", "cuda is not used"),
        ({"tensor_split": [1, -1]}, "tensor_split", "one share for each device"),
        ({"tensor_split": [0, 0]}, "tensor_split", "not all 0"),
        ({"tensor_split": [1] * 17}, "tensor_split", "at most 16"),
        ({"tensor_split": ["1"]}, "tensor_split", "numbers"),
        ({"tensor_split": [True]}, "tensor_split", "numbers"),
        ({"tensor_split": {"0": 1}}, "tensor_split", "numbers"),
        ({"tensor_split": [1, 1], "device": "cuda:0"}, "tensor_split", "one device"),
        ({"tensor_split": [1, 1], "device": "cpu"}, "tensor_split", "one device"),
        ({"flash_attention": "off", "cache_type_v": "q8_0"}, "cache_type_v", "flash attention"),
        ({"cache_type_k": "q6_k"}, "cache_type_k", "not a valid choice"),
        ({"threads": 0}, "threads", "greater than or equal to 1"),
    ],
)
def test_options_that_make_no_sense_say_why(
    fields: dict[str, Any], field: str, reason: str
) -> None:
    with pytest.raises(ValidationError) as caught:
        a_version(**fields).full_clean()
    assert reason in " ".join(caught.value.message_dict[field])


def test_draft_model_of_the_same_vocabulary_is_taken() -> None:
    draft = a_version(vocabulary_size=100)
    a_version(vocabulary_size=100, draft_model=draft).full_clean()


@pytest.mark.parametrize(
    ("sizes", "type_", "reason"),
    [
        ((100, 99), "text_generation", "knows 99 tokens and this version 100"),
        ((100, None), "text_generation", "Download the file of"),
        ((None, 100), "text_generation", "Download the file of"),
        ((100, 100), "embedding", "Only text generation"),
    ],
)
def test_draft_model_that_cannot_guess_says_why(
    sizes: tuple[int | None, int | None], type_: str, reason: str
) -> None:
    version, draft = (a_version(vocabulary_size=size) for size in sizes)
    Model.objects.filter(pk=draft.model_id).update(type=type_)
    version.draft_model = ModelVersion.objects.get(pk=draft.pk)
    with pytest.raises(ValidationError, match=reason):
        version.full_clean()


def test_version_is_not_its_own_draft_model() -> None:
    version = a_version(vocabulary_size=100)
    version.draft_model = version
    with pytest.raises(ValidationError, match="its own draft"):
        version.full_clean()


def test_version_outlives_its_draft_model() -> None:
    draft = a_version(vocabulary_size=100)
    version = a_version(vocabulary_size=100, draft_model=draft)
    draft.model.delete()
    version.refresh_from_db()
    assert version.draft_model is None


def test_spec_carries_every_option() -> None:
    draft = a_version(file_name="draft.gguf")
    options: dict[str, Any] = {
        "kv_cells": 512,
        "max_sequences": 3,
        "threads": 2,
        "device": "cuda",
        "gpu_layers": 7,
        "tensor_split": [3, 1],
        "flash_attention": "on",
        "cache_type_k": "q8_0",
        "cache_type_v": "q4_0",
        "speculation": "off",
    }
    spec = spec_of(a_version(draft_model=draft, **options), Path("/models"))
    assert {name: getattr(spec, name) for name in options} == {
        **options,
        "tensor_split": (3, 1),
    }
    assert spec.draft_path == "/models/draft.gguf"
    assert set(ModelVersion.option_names()) == {*options, "draft_model"}


@pytest.mark.parametrize(("own", "usual", "layers"), [(-1, -1, -1), (-1, 0, 0), (7, 0, 7)])
def test_layers_of_the_settings_are_those_of_versions_without_their_own(
    settings: Any, own: int, usual: int, layers: int
) -> None:
    settings.INFERENCE = replace(settings.INFERENCE, gpu_layers=usual)
    version = a_version(gpu_layers=own)
    assert spec_of(version, Path("/models")).gpu_layers == layers
    node = a_node()
    node.devices = [*node.devices, {"name": "cuda:0", "memory_bytes": 1 << 40}]
    (place, *_) = placements_of(version, node, {})
    assert ("cuda:0" in place.needs) == (layers != 0)
    assert ("layers" in options_of(version, "auto", [])) == (layers >= 0)
