"""What exists (catalogue), how it is asked for (routing, presets), where it is loaded (fleet)."""

from models_registry.models.catalogue import Hardware, Model, ModelVersion, Source
from models_registry.models.context import ContextBudget
from models_registry.models.downloads import ACTIVE, Download
from models_registry.models.fleet import Node, Replica
from models_registry.models.predictions import Prediction
from models_registry.models.presets import Preset, PresetMember
from models_registry.models.registrations import Registration
from models_registry.models.residency import Footprint
from models_registry.models.routing import (
    Fallback,
    OrchestrationMode,
    Participant,
    Role,
    RoleAssignment,
    TaskRoute,
)
from models_registry.models.seeded import SeededRow

__all__ = [
    "ACTIVE",
    "ContextBudget",
    "Download",
    "Fallback",
    "Footprint",
    "Hardware",
    "Model",
    "ModelVersion",
    "Node",
    "OrchestrationMode",
    "Participant",
    "Prediction",
    "Preset",
    "PresetMember",
    "Registration",
    "Replica",
    "Role",
    "RoleAssignment",
    "SeededRow",
    "Source",
    "TaskRoute",
]
