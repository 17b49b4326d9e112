"""Which version of a model requests get: default, canary, deprecated."""

from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator
from django.db import models


class Rollout(models.Model):
    """The fields of a version that say which requests it gets.

    ``catalogue.rollout`` changes them, so that the versions of a model stay in step.
    """

    is_default = models.BooleanField(default=False)
    default_until = models.DateTimeField(
        null=True,
        editable=False,
        help_text="When another version took its place as default; a rollback goes to the latest.",
    )
    is_deprecated = models.BooleanField(
        default=False, help_text="It still answers; its answers carry a warning."
    )
    deprecation_note = models.CharField(
        max_length=200, blank=True, help_text="Why, and what to use instead."
    )
    canary_percent = models.PositiveSmallIntegerField(
        "canary share in percent",
        default=0,
        validators=[MaxValueValidator(100)],
        help_text="Share of the requests that name only the model which this version gets.",
    )

    class Meta:
        abstract = True

    def clean(self) -> None:
        """Raise ``ValidationError`` where a version that is no candidate has a canary share."""
        super().clean()
        if self.canary_percent and self.is_default:
            raise ValidationError(
                {"canary_percent": "The default gets what canaries leave: it has no share itself."}
            )
        if self.canary_percent and self.is_deprecated:
            raise ValidationError({"canary_percent": "A deprecated version gets no canary share."})
