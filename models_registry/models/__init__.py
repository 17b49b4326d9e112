"""What exists (catalogue) and where it is in memory (fleet)."""

from models_registry.models.catalogue import Model, ModelVersion, Source
from models_registry.models.fleet import Node, Replica

__all__ = ["Model", "ModelVersion", "Node", "Replica", "Source"]
