"""Prices of versions, each from a moment on."""

from datetime import timedelta
from typing import Any, Final

from django.core.validators import MinValueValidator
from django.db import models
from django.utils import timezone

from models_registry.models.catalogue import ModelVersion
from models_registry.rules import price as rules

# Web processes know the prices of up to a second ago.
NOTICE: Final = timedelta(seconds=10)


def _usd(label: str, **options: Any) -> models.DecimalField:
    return models.DecimalField(
        label,
        max_digits=12,
        decimal_places=6,
        validators=[MinValueValidator(0)],
        **{"default": 0, **options},
    )


class Price(models.Model):
    """A price is in force from ``valid_from`` until the next price of its version.

    Of two with the same time the later row counts: it corrects the other. When ``late_at`` is set,
    the row was added then, and requests may have had another price already: see ``corrected_at``.
    """

    version = models.ForeignKey(ModelVersion, on_delete=models.CASCADE, related_name="prices")
    valid_from = models.DateTimeField(
        "valid from (UTC)", blank=True, help_text="Empty: from now on."
    )
    # Short labels, so that all of a price is in view.
    prompt_usd_per_million_tokens = _usd("Prompt, $/million")
    cached_usd_per_million_tokens = _usd("Cached, $/million", default=None, null=True, blank=True)
    completion_usd_per_million_tokens = _usd("Completion, $/million")
    usd_per_device_hour = _usd("Device, $/hour")
    added_by = models.CharField(max_length=150, blank=True, editable=False)
    late_at = models.DateTimeField(null=True, editable=False)
    corrected_at = models.DateTimeField(null=True, editable=False)

    class Meta:
        ordering = ["valid_from", "id"]

    def __str__(self) -> str:
        return f"{self.version} from {self.valid_from:%Y-%m-%d %H:%M}"

    def clean(self) -> None:
        super().clean()
        if not self.valid_from:
            self.valid_from = timezone.now().replace(microsecond=0) + 2 * NOTICE

    @property
    def value(self) -> rules.Price:
        cached = self.cached_usd_per_million_tokens
        usd = (
            self.prompt_usd_per_million_tokens,
            self.prompt_usd_per_million_tokens if cached is None else cached,
            self.completion_usd_per_million_tokens,
            self.usd_per_device_hour,
        )
        # Six decimals make whole numbers of billionths.
        return rules.Price(self.pk, self.valid_from, *(int(each * rules.NANO) for each in usd))
