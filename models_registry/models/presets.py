"""Presets: named sets of models that work together in one mode."""

from django.core.exceptions import ValidationError
from django.core.validators import RegexValidator
from django.db import models

from models_registry.models.catalogue import Hardware, Model, ModelVersion, check_sampling
from models_registry.rules.cache_settings import CacheSettings
from models_registry.rules.mode_settings import OrchestrationMode, read_settings
from models_registry.rules.roles import Participant


class Preset(models.Model):
    name = models.CharField(
        max_length=50,
        unique=True,
        validators=[
            RegexValidator(
                r"^[A-Za-z0-9][A-Za-z0-9._-]*\Z", "Use letters, digits, '.', '_' and '-'."
            )
        ],
        help_text="Requests send it as model or preset.",
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
        help_text='Settings of the mode, such as {"max_rounds": 2}; others keep their defaults.',
    )
    default_sampling = models.JSONField(
        default=dict, blank=True, help_text="Overrides the default sampling of its versions."
    )
    cache = models.JSONField(
        default=dict,
        blank=True,
        help_text='Caches of answers, such as {"match": "retyped", "scope": "all", "ttl": 3600}; '
        "others stay as the service has them.",
    )
    documented_memory_bytes = models.BigIntegerField(
        "documented memory (bytes)",
        null=True,
        blank=True,
        help_text="Memory of all models, according to the publisher.",
    )
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name

    def clean(self) -> None:
        super().clean()
        check_sampling(self.default_sampling)
        try:
            CacheSettings().of_preset(self.cache)
        except (ValueError, TypeError) as error:
            raise ValidationError({"cache": str(error)}) from error
        if self.orchestration_mode in OrchestrationMode.values:
            try:
                read_settings(self.orchestration_mode, self.settings)
            except ValueError as error:
                raise ValidationError({"settings": str(error)}) from error


class PresetMember(models.Model):
    """A model of a preset, with its part; ``position`` orders the members."""

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
        super().clean()
        if not self.model_id:
            return
        if self.model.type != Model.Type.TEXT_GENERATION:
            raise ValidationError({"model": "Only text generation models can be members."})
        if self.version is not None and self.version.model_id != self.model_id:
            raise ValidationError({"version": f"{self.version} is not a version of {self.model}."})
