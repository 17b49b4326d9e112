"""The rows: models and versions, routing and presets, nodes and replicas, downloads."""

# ruff: noqa: F401
from models_registry.models.catalogue import Hardware, Model, ModelVersion, Source
from models_registry.models.context import ContextBudget
from models_registry.models.downloads import ACTIVE, Download
from models_registry.models.fleet import Node, Replica
from models_registry.models.predictions import Prediction
from models_registry.models.presets import Preset, PresetMember
from models_registry.models.pricing import Price
from models_registry.models.registrations import Registration
from models_registry.models.residency import Footprint
from models_registry.models.routing import Fallback, RoleAssignment, TaskRoute
from models_registry.models.seeded import SeededRow
from models_registry.rules.mode_settings import OrchestrationMode
from models_registry.rules.roles import Participant, Role
