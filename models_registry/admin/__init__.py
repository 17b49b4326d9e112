"""The registry in the admin; this import registers its pages."""

# ruff: noqa: F401
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
    versions,
)
