"""Models, their versions, and where a version's file comes from."""

from django.core.exceptions import ValidationError
from django.core.validators import RegexValidator
from django.db import models

from models_registry.models.runtime import RuntimeOptions


class Model(models.Model):
    """A model as clients name it, whatever its versions."""

    class Type(models.TextChoices):
        TEXT_GENERATION = "text_generation"
        EMBEDDING = "embedding"

    slug = models.CharField(
        "id",
        max_length=100,
        unique=True,
        validators=[
            RegexValidator(
                r"^[a-z0-9][a-z0-9._-]*$", "Use lower-case letters, digits, '.', '_' and '-'."
            )
        ],
        help_text="What requests send as model.",
    )
    name = models.CharField(max_length=200)
    type = models.CharField(max_length=32, choices=Type.choices, default=Type.TEXT_GENERATION)
    description = models.TextField(blank=True)
    licence = models.CharField(max_length=100, blank=True)
    capabilities = models.JSONField(default=list, blank=True)
    languages = models.JSONField(default=list, blank=True)
    roles = models.JSONField(default=list, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["slug"]

    def __str__(self) -> str:
        return self.slug


class ModelVersion(RuntimeOptions):
    """One file of a model, with how it is to be loaded.

    Facts read from the file's header are null until the file is there.
    """

    class FileState(models.TextChoices):
        ABSENT = "absent"
        FETCHING = "fetching"
        READY = "ready"
        FAILED = "failed"

    model = models.ForeignKey(Model, on_delete=models.CASCADE, related_name="versions")
    label = models.CharField(max_length=50)
    is_default = models.BooleanField(default=False)
    file_name = models.CharField(max_length=255, help_text="Below the models directory.")
    file_state = models.CharField(
        max_length=10, choices=FileState.choices, default=FileState.ABSENT, editable=False
    )
    file_error = models.TextField(blank=True, editable=False)
    sha256 = models.CharField(max_length=64, blank=True)
    size_bytes = models.BigIntegerField(null=True, blank=True)

    architecture = models.CharField(max_length=50, blank=True, editable=False)
    quantisation = models.CharField(max_length=30, blank=True, editable=False)
    context_length_tokens = models.PositiveIntegerField(null=True, blank=True)
    embedding_dimensions = models.PositiveIntegerField(null=True, blank=True, editable=False)
    vocabulary_size = models.PositiveIntegerField(null=True, blank=True, editable=False)
    chat_template = models.TextField(
        blank=True, help_text="Jinja; read from the file unless set here."
    )

    default_sampling = models.JSONField(
        default=dict, blank=True, help_text="Sampling values used where a request names none."
    )
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["model__slug", "label"]
        constraints = [
            models.UniqueConstraint(fields=["model", "label"], name="one_label_per_model"),
            models.UniqueConstraint(
                fields=["model"],
                condition=models.Q(is_default=True),
                name="one_default_version_per_model",
            ),
        ]

    def __str__(self) -> str:
        return self.key

    @property
    def key(self) -> str:
        """``model@label``: names the version in requests, queues and records."""
        return f"{self.model.slug}@{self.label}"

    def clean(self) -> None:
        """Raise ``ValidationError`` where options contradict each other or the draft model."""
        super().clean()
        if self.draft_model is not None:
            reason = self._reason_against(self.draft_model)
            if reason:
                raise ValidationError({"draft_model": reason})

    def _reason_against(self, draft: "ModelVersion") -> str:
        """Why ``draft`` cannot guess for this version; "" when it can."""
        if draft == self:
            return "A version cannot be its own draft model."
        if any(version.model.type != Model.Type.TEXT_GENERATION for version in (self, draft)):
            return "Only text generation can use a draft model, and be one."
        unknown = [version for version in (self, draft) if version.vocabulary_size is None]
        if unknown:
            return f"Fetch the file of {unknown[0]} first: their vocabularies are to be compared."
        if draft.vocabulary_size != self.vocabulary_size:
            return (
                f"{draft} knows {draft.vocabulary_size} tokens and this version "
                f"{self.vocabulary_size}: a draft model needs the same vocabulary."
            )
        return ""


class Source(models.Model):
    """A place to fetch a version's file from; tried in order of ``position``."""

    version = models.ForeignKey(ModelVersion, on_delete=models.CASCADE, related_name="sources")
    position = models.PositiveSmallIntegerField(default=0)
    url = models.CharField(
        max_length=500,
        help_text="pypi://package==version/path, file:///path, or pypi+parts:// for a file cut "
        "into packages part{1..4}.",
    )

    class Meta:
        ordering = ["position"]
        constraints = [
            models.UniqueConstraint(fields=["version", "url"], name="one_source_per_url"),
        ]

    def __str__(self) -> str:
        return self.url
