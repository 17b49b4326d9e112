"""Rows of the registry for tests."""

import uuid
from typing import Any

from models_registry.models import Model, ModelVersion, Node


def a_version(label: str = "v1", model: Model | None = None, **fields: Any) -> ModelVersion:
    """A version whose file is there, of a new model unless one is given."""
    if model is None:
        model = Model.objects.create(slug=f"m-{uuid.uuid4().hex}", name="Test")
    defaults = {"file_name": "a.gguf", "file_state": ModelVersion.FileState.READY}
    return ModelVersion.objects.create(model=model, label=label, **(defaults | fields))


def a_node(max_replicas: int = 4) -> Node:
    """A node under a name of its own."""
    return Node.objects.create(name=f"n-{uuid.uuid4().hex}", max_replicas=max_replicas)
