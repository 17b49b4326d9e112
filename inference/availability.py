"""Why a version is not served at the moment."""

from inference.errors import ModelLoadingError
from inference.run import RunHeader
from models_registry.selectors import replica_statuses


def explain_absence(error: ModelLoadingError, header: RunHeader) -> ModelLoadingError:
    """Why no host serves the version, as the registry knows it."""
    replicas = [
        replica
        for replica in replica_statuses()
        if replica.version_key == header.version_key and replica.desired == "resident"
    ]
    if not replicas:
        return ModelLoadingError(
            f"{header.model} is not loaded. Load it with POST /v1/models/{header.model}/load "
            "or in the admin.",
            code="model_not_loaded",
            param="model",
            retry_after_ms=10_000,
        )
    states = {replica.node: replica.state for replica in replicas}
    reasons = " ".join(replica.reason for replica in replicas if replica.reason)
    if reasons:
        error = ModelLoadingError(f"{error.message} {reasons}", retry_after_ms=2000)
    error.details["replicas"] = states
    return error
