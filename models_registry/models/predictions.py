"""Demand predictions and their outcomes."""

from django.db import models

from models_registry.models.catalogue import ModelVersion
from models_registry.rules.outcome import Outcome


class Prediction(models.Model):
    """A version for which a request was expected between ``made_at`` and ``until``.

    Outcome ``missed``: an unexpected request at ``made_at`` for a version that was not in memory.
    """

    version = models.ForeignKey(
        ModelVersion, on_delete=models.CASCADE, related_name="predictions", editable=False
    )
    made_at = models.DateTimeField(editable=False)
    until = models.DateTimeField(editable=False)
    probability = models.FloatField(editable=False)
    needed_bytes = models.BigIntegerField(editable=False, help_text="Of memory, all devices.")
    acted_on = models.BooleanField(
        editable=False, help_text="It was to be loaded, not only written down."
    )
    outcome = models.CharField(
        max_length=10,
        choices=[(one.value, one.value) for one in Outcome],
        default=Outcome.PENDING.value,
        editable=False,
    )
    wasted_byte_seconds = models.FloatField(
        default=0.0,
        editable=False,
        help_text="Bytes times seconds until the first request or the end.",
    )

    class Meta:
        ordering = ["-made_at", "-id"]
        indexes = [models.Index(fields=["until"], name="prediction_until")]

    def __str__(self) -> str:
        return f"{self.version.key} {self.outcome}"
