"""Which requirements make sense, and which versions meet them."""

from typing import Any

import msgspec
import pytest

from models_registry.rules.requirement import (
    ModelRequirement,
    RequirementError,
    check_requirement,
    read_requirement,
)
from models_registry.rules.spec import ModelSpec


def spec(**fields: Any) -> ModelSpec:
    values: dict[str, Any] = {
        "model_slug": "m", "version_key": "m@v", "type": "embedding", "path": "/m.gguf",
        "chat_template": "", "context_length_tokens": 512, "kv_cells": 1024, "max_sequences": 4,
        "embedding_dimensions": 384,
    }  # fmt: skip
    return ModelSpec(**(values | fields))


def embedding(**fields: Any) -> ModelRequirement:
    return ModelRequirement(model_type="embedding", name="m", **fields)


@pytest.mark.parametrize(
    "fields",
    [
        {"model_type": "embedding", "dimension": 384, "batch_size": 16, "cache_embeddings": False},
        {"model_type": "text2text", "max_input_length": 512, "max_output_length": 128},
        {"model_type": "text_generation", "temperature": 0.7, "top_k": 50, "top_p": 0.9,
         "streaming": True, "max_input_length": 512, "device": "cuda:1"},
        {"model_type": "classification", "num_labels": 2, "threshold": 0.5, "device": "cuda"},
        {"model_type": "vision", "preload_workers": 2, "device": "cpu"},
    ],
)  # fmt: skip
def test_requirement_takes_the_fields_of_its_type(fields: dict[str, Any]) -> None:
    requirement = read_requirement({"name": "owner/name", **fields})
    assert {name: getattr(requirement, name) for name in fields} == fields
    assert read_requirement(requirement) == requirement


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"model_type": "poetry"}, "model_type"),
        ({"name": ""}, "name"),
        ({"name": "a\0"}, "name"),
        ({"device": "cuda:x"}, "device"),
        ({"device": "CPU"}, "device"),
        ({"preload_workers": -1}, "preload_workers"),
        ({"preload_workers": 65}, "preload_workers"),
        ({"dimension": 0}, "dimension"),
        ({"dimension": "384"}, "dimension"),
        ({"batch_size": 0}, "batch_size"),
        ({"temperature": 1.0}, "temperature"),
        ({"num_labels": 2}, "num_labels"),
        ({"model_type": "text_generation", "dimension": 3}, "dimension"),
        ({"model_type": "text_generation", "top_p": -0.1}, "top_p"),
        ({"colour": "red"}, ""),
    ],
)
def test_requirement_names_the_field_at_fault(fields: dict[str, Any], field: str) -> None:
    with pytest.raises(RequirementError) as refusal:
        read_requirement({"model_type": "embedding", "name": "m", **fields})
    assert refusal.value.field == field


def test_requirement_made_in_python_is_checked_when_read() -> None:
    with pytest.raises(RequirementError) as refusal:
        read_requirement(embedding(batch_size="many"))
    assert refusal.value.field == "batch_size"


def test_requirement_without_a_name_says_so() -> None:
    with pytest.raises(RequirementError, match="name"):
        read_requirement({"model_type": "embedding"})


def test_requirement_is_met() -> None:
    check_requirement(embedding(dimension=384), spec())
    check_requirement(embedding(), spec())
    # Known once its file is there.
    check_requirement(embedding(dimension=7), spec(embedding_dimensions=None))
    fits = ModelRequirement(
        model_type="text_generation", name="m", max_input_length=500, max_output_length=12
    )
    check_requirement(fits, spec(type="text_generation"))


@pytest.mark.parametrize(
    ("fields", "other", "field", "message"),
    [
        ({}, {"type": "text_generation"}, "model_type", "is of type text_generation"),
        ({"dimension": 100}, {}, "dimension", "384 dimensions, not 100"),
        ({"model_type": "vision"}, {"type": "vision"}, "model_type", "not served yet"),
        (
            {"model_type": "text_generation", "max_input_length": 500, "max_output_length": 13},
            {"type": "text_generation"}, "max_input_length", "512 tokens.*513",
        ),
    ],
)  # fmt: skip
def test_requirement_is_not_met(
    fields: dict[str, Any], other: dict[str, Any], field: str, message: str
) -> None:
    requirement = msgspec.structs.replace(embedding(), **fields)
    with pytest.raises(RequirementError, match=message) as refusal:
        check_requirement(requirement, spec(**other))
    assert refusal.value.field == field


def test_requirement_gives_sampling_only_where_it_names_it() -> None:
    requirement = ModelRequirement(model_type="text_generation", name="m", temperature=0.0, top_k=5)
    assert requirement.sampling == {"temperature": 0.0, "top_k": 5}
