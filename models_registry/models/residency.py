"""How long a version stays in memory, and what is known of how much it takes."""

from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models


class ResidencyOptions(models.Model):
    """The fields of a version that say when it is in memory."""

    pinned = models.BooleanField(
        default=False, help_text="Always in memory: never put out for others."
    )
    keep_alive_seconds = models.IntegerField(
        null=True,
        blank=True,
        validators=[MinValueValidator(-1)],
        help_text="Seconds without requests after which it leaves memory; -1 for never, empty for "
        "INFERENCE_KEEP_ALIVE_SECONDS.",
    )
    preload_workers = models.PositiveSmallIntegerField(
        default=0,
        validators=[MaxValueValidator(64)],
        help_text="Replicas that are in memory before anybody asks, where there is room; with 0 "
        "the first request brings it.",
    )
    header = models.JSONField(
        null=True, editable=False, help_text="What its memory is foreseen from."
    )

    class Meta:
        abstract = True


class Footprint(models.Model):
    """What a version was measured to take, with the options it was loaded with.

    ``private_bytes`` are those of the process alone, after it has worked.
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
