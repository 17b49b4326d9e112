"""The registry in the admin: one module for each subject, all registered by this import."""

from models_registry.admin import (
    audit_trail,
    downloads,
    models,
    nodes,
    overview,
    predictions,
    presets,
    registrations,
    replicas,
    routing,
    versions,
)

__all__ = [
    "audit_trail",
    "downloads",
    "models",
    "nodes",
    "overview",
    "predictions",
    "presets",
    "registrations",
    "replicas",
    "routing",
    "versions",
]
