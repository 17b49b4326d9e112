"""Presets: named sets of model versions that work together in one mode."""

from django.core.exceptions import ValidationError
from django.core.validators import RegexValidator
from django.db import models

from models_registry.models.catalogue import Hardware, Model, ModelVersion, check_sampling
from models_registry.models.routing import OrchestrationMode, Participant
from models_registry.rules.mode_settings import read_settings


class Preset(models.Model):
    """A mode, its settings, and who speaks in it."""

    name = models.CharField(
        max_length=50,
        unique=True,
        validators=[
            RegexValidator(
                r"^[A-Za-z0-9][A-Za-z0-9._-]*\Z", "Use letters, digits, '.', '_' and '-'."
            )
        ],
        help_text="What requests send as preset.",
    )
    title = models.CharField(max_length=200, blank=True)
    orchestration_mode = models.CharField(
        max_length=10, choices=OrchestrationMode.choices, default=OrchestrationMode.SINGLE
    )
    description = models.TextField(blank=True)
    hardware = models.CharField(max_length=20, choices=Hardware.choices, blank=True)
    settings = models.JSONField(
        default=dict,
        blank=True,
        help_text='Of the mode, such as {"max_rounds": 2}; what is missing has its usual value.',
    )
    default_sampling = models.JSONField(
        default=dict, blank=True, help_text="Goes before the sampling values of its versions."
    )
    documented_memory_bytes = models.BigIntegerField(
        null=True, blank=True, help_text="What its publisher says all of its models take."
    )
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name

    def clean(self) -> None:
        """Raise ``ValidationError`` for settings that are not the mode's, and for odd sampling."""
        super().clean()
        check_sampling(self.default_sampling)
        if self.orchestration_mode in OrchestrationMode.values:
            try:
                read_settings(self.orchestration_mode, self.settings)
            except ValueError as error:
                raise ValidationError({"settings": str(error)}) from error


class PresetMember(models.Model):
    """A model that speaks in a preset; in a pipeline, members speak in order of ``position``."""

    preset = models.ForeignKey(Preset, on_delete=models.CASCADE, related_name="members")
    position = models.PositiveSmallIntegerField(default=0)
    role = models.CharField(
        max_length=12, choices=Participant.choices, default=Participant.GENERATOR
    )
    model = models.ForeignKey(Model, on_delete=models.PROTECT, related_name="preset_members")
    version = models.ForeignKey(
        ModelVersion,
        on_delete=models.PROTECT,
        null=True,
        blank=True,
        related_name="preset_members",
        help_text="Empty for the model's default version.",
    )

    class Meta:
        ordering = ["preset", "position", "id"]

    def __str__(self) -> str:
        return f"{self.preset.name}: {self.version or self.model} as {self.role}"

    def clean(self) -> None:
        """Raise ``ValidationError`` where version and model, or model and mode, do not match."""
        super().clean()
        if not self.model_id:
            return
        if self.model.type != Model.Type.TEXT_GENERATION:
            raise ValidationError({"model": "Only text generation can take part in a preset."})
        if self.version is not None and self.version.model_id != self.model_id:
            raise ValidationError({"version": f"{self.version} is no version of {self.model}."})
