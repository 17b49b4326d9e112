"""Residency options of a version, and its measured memory."""

from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models


class ResidencyOptions(models.Model):
    pinned = models.BooleanField(default=False, help_text="Always in memory, never evicted.")
    keep_alive_seconds = models.IntegerField(
        null=True,
        blank=True,
        validators=[MinValueValidator(-1)],
        help_text="Seconds without requests until it is unloaded; -1: never, empty: "
        "INFERENCE_KEEP_ALIVE_SECONDS.",
    )
    preload_workers = models.PositiveSmallIntegerField(
        default=0,
        validators=[MaxValueValidator(64)],
        help_text="Replicas to load before any request, if memory allows; 0: load at the first "
        "request.",
    )
    header = models.JSONField(
        null=True, editable=False, help_text="Facts of the file for memory estimates."
    )

    class Meta:
        abstract = True


class Footprint(models.Model):
    """Measured memory of a version with certain options.

    ``private_bytes`` is the private memory of the process after it has served requests.
    """

    version = models.ForeignKey(
        "models_registry.ModelVersion", on_delete=models.CASCADE, related_name="footprints"
    )
    options = models.CharField(
        max_length=300,
        help_text="Device, sizes and types of the KV cache, draft model, what the CPU can do.",
    )
    private_bytes = models.BigIntegerField()
    measured_at = models.DateTimeField(auto_now=True)

    class Meta:
        ordering = ["version", "options"]
        constraints = [
            models.UniqueConstraint(fields=["version", "options"], name="one_footprint_per_options")
        ]

    def __str__(self) -> str:
        return f"{self.version.key} ({self.options})"
