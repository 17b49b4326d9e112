"""The observed states of a replica, for its rows and for the plan."""

from django.db.models import TextChoices


class ReplicaState(TextChoices):
    STOPPED = "stopped"
    STARTING = "starting"
    LOADING = "loading"
    READY = "ready"
    DRAINING = "draining"
    FAILED = "failed"
