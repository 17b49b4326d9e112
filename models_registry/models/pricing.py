"""What using a version costs."""

from django.core.validators import MinValueValidator
from django.db import models


def _price(help_text: str) -> models.DecimalField:
    return models.DecimalField(
        max_digits=12,
        decimal_places=6,
        default=0,
        validators=[MinValueValidator(0)],
        help_text=help_text,
    )


class Prices(models.Model):
    """The prices of a version, in US dollars; 0 where nothing is charged."""

    prompt_usd_per_million_tokens = _price("US dollars for a million prompt tokens.")
    completion_usd_per_million_tokens = _price("US dollars for a million completion tokens.")
    usd_per_device_hour = _price("US dollars for an hour of computing on one device.")

    class Meta:
        abstract = True
