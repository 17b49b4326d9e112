"""Rollout of a version: default, canary, deprecated."""

from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator
from django.db import models


class Rollout(models.Model):
    """After a version was added only ``catalogue.rollout`` changes these fields.

    It keeps the versions of a model consistent.
    """

    is_default = models.BooleanField(default=False)
    default_until = models.DateTimeField(
        null=True,
        editable=False,
        help_text="When another version took its place as default; a rollback goes to the latest.",
    )
    is_deprecated = models.BooleanField(default=False, help_text="Its answers carry a warning.")
    deprecation_note = models.CharField(
        max_length=200, blank=True, help_text="Why, and what to use instead."
    )
    canary_percent = models.PositiveSmallIntegerField(
        "canary share in percent",
        default=0,
        validators=[MaxValueValidator(100)],
        help_text="Share of the requests without a version label that this version gets.",
    )

    class Meta:
        abstract = True

    def clean(self) -> None:
        super().clean()
        if self.canary_percent and self.is_default:
            raise ValidationError(
                {"canary_percent": "The default version gets the requests that canaries leave."}
            )
        if self.canary_percent and self.is_deprecated:
            raise ValidationError({"canary_percent": "A deprecated version cannot be a canary."})
