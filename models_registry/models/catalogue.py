"""Models, their versions, and the sources of a version's file."""

from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import models, transaction

from models_registry.models.residency import ResidencyOptions
from models_registry.models.rollout import Rollout
from models_registry.models.routing import validate_roles
from models_registry.models.runtime import RuntimeOptions
from models_registry.rules.capabilities import capabilities_with
from models_registry.rules.chat_templates import fault_of_template
from models_registry.rules.names import validate_file_name, validate_label, validate_slug
from models_registry.rules.sampling import require_sampling
from models_registry.rules.spec import ModelType
from models_registry.sources import BadSourceError, check_form


class Hardware(models.TextChoices):
    """Hardware that a version or preset is meant for, according to its publisher."""

    LAPTOP = "laptop", "16 GB laptop"
    LAPTOP_ALONE = "laptop_alone", "dedicated 16 GB laptop"
    SERVER = "server", "server with a GPU of 24 GB or more"


class Model(models.Model):
    Type = ModelType

    slug = models.CharField(
        "id",
        max_length=100,
        unique=True,
        validators=[validate_slug],
        help_text="The value of model in requests.",
    )
    name = models.CharField(max_length=200)
    type = models.CharField(max_length=32, choices=Type.choices, default=Type.TEXT_GENERATION)
    description = models.TextField(blank=True)
    licence = models.CharField(max_length=100, blank=True)
    capabilities = models.JSONField(default=list, blank=True)
    languages = models.JSONField(default=list, blank=True)
    roles = models.JSONField(
        default=list,
        blank=True,
        validators=[validate_roles],
        help_text='Roles of the model, best first, such as ["coder", "primary"].',
    )
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["slug"]

    def __str__(self) -> str:
        return self.slug

    @property
    def default_version(self) -> "ModelVersion | None":
        """Found among ``versions``, which lists prefetch."""
        return next((version for version in self.versions.all() if version.is_default), None)

    @property
    def roles_in_force(self) -> list[str]:
        """The roles from ``INFERENCE_MODEL_ROLES``, else those in the row."""
        return list(settings.INFERENCE.model_roles.get(self.slug, self.roles))


class ModelVersion(RuntimeOptions, ResidencyOptions, Rollout):
    """One file of a model, with the options of its replicas."""

    class FileState(models.TextChoices):
        ABSENT = "absent"
        FETCHING = "fetching"
        READY = "ready"
        FAILED = "failed"

    model = models.ForeignKey(Model, on_delete=models.CASCADE, related_name="versions")
    label = models.CharField(max_length=50, validators=[validate_label])
    file_name = models.CharField(
        max_length=255,
        validators=[validate_file_name],
        help_text="Below the models directory.",
    )
    file_state = models.CharField(
        max_length=10, choices=FileState.choices, default=FileState.ABSENT, editable=False
    )
    file_error = models.TextField(blank=True, editable=False)
    sha256 = models.CharField("SHA-256", max_length=64, blank=True)
    size_bytes = models.BigIntegerField("size (bytes)", null=True, blank=True)
    documented_memory_bytes = models.BigIntegerField(
        "documented memory (bytes)", null=True, blank=True, help_text="According to the publisher."
    )
    hardware = models.CharField(max_length=20, choices=Hardware.choices, blank=True)

    # Read from the file's header; empty until the file is here.
    architecture = models.CharField(max_length=50, blank=True, editable=False)
    quantisation = models.CharField(max_length=30, blank=True, editable=False)
    context_length_tokens = models.PositiveIntegerField(
        "context length (tokens)", null=True, blank=True
    )
    embedding_dimensions = models.PositiveIntegerField(null=True, blank=True, editable=False)
    vocabulary_size = models.PositiveIntegerField(null=True, blank=True, editable=False)
    kv_bytes_per_token = models.PositiveIntegerField(
        "KV cache per token in bytes",
        null=True,
        editable=False,
        help_text="With keys and values in f16; 0 for an encoder.",
    )
    capabilities = models.JSONField(
        default=list,
        editable=False,
        help_text="Of chat, completion, tools, fim (fills in a hole) and embedding.",
    )
    chat_template = models.TextField(
        blank=True, help_text="Jinja; read from the file unless set here."
    )

    default_sampling = models.JSONField(
        default=dict, blank=True, help_text="Sampling values of requests that set none."
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
        """``model@label``, the name in requests, queues and records."""
        return f"{self.model.slug}@{self.label}"

    @property
    def model_follows_file(self) -> bool:
        """Whether neither a person nor another version's file decides the model's capabilities."""
        if self.model.capabilities not in ([], self.capabilities):
            return False
        others = self.model.versions.exclude(pk=self.pk)
        return not others.exclude(architecture="").exists()

    @property
    def sequence_limit_tokens(self) -> int:
        """The longest sequence of a replica: the model's context or the whole KV cache."""
        return min(self.context_length_tokens or self.kv_cells, self.kv_cells)

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Save the row; a new template changes the capabilities that were read from the file."""
        fields = kwargs.get("update_fields")
        with transaction.atomic():
            if self.capabilities and (fields is None or "chat_template" in fields):
                before = self.capabilities
                self.capabilities = capabilities_with(before, self.chat_template)
                if before != self.capabilities and self.model.capabilities == before:
                    self.model.capabilities = self.capabilities
                    self.model.save(update_fields=["capabilities"])
                if fields is not None:
                    kwargs["update_fields"] = {*fields, "capabilities"}
            super().save(*args, **kwargs)

    @property
    def usable_draft(self) -> "ModelVersion | None":
        """The draft model if its file is here."""
        draft = self.draft_model
        return draft if draft and draft.file_state == self.FileState.READY else None

    def clean(self) -> None:
        super().clean()
        check_sampling(self.default_sampling)
        fault = fault_of_template(self.chat_template)
        stored = ModelVersion.objects.filter(pk=self.pk, chat_template=self.chat_template)
        if fault and not stored.exists():
            raise ValidationError({"chat_template": f"Not a valid Jinja template. {fault}"})
        if self.canary_percent:
            others = ModelVersion.objects.filter(model=self.model_id).exclude(pk=self.pk)
            taken = sum(others.values_list("canary_percent", flat=True))
            if taken + self.canary_percent > 100:
                raise ValidationError(
                    {"canary_percent": f"Other versions get {taken} %. Maximum: {100 - taken} %."}
                )
        same_file = ModelVersion.objects.filter(file_name=self.file_name).exclude(pk=self.pk)
        other = same_file.select_related("model").first()
        if other is not None:
            raise ValidationError({"file_name": f"This is the file of {other}. Choose another."})
        if self.draft_model is not None:
            reason = self._draft_fault(self.draft_model)
            if reason:
                raise ValidationError({"draft_model": reason})

    def _draft_fault(self, draft: "ModelVersion") -> str:
        """Reason why ``draft`` cannot be the draft model; "" if it can."""
        if draft == self:
            return "A version cannot be its own draft model."
        if any(version.model.type != Model.Type.TEXT_GENERATION for version in (self, draft)):
            return "Only text generation models can have a draft model or be one."
        unknown = [version for version in (self, draft) if version.vocabulary_size is None]
        if unknown:
            return f"Download the file of {unknown[0]} first, so that vocabularies can be compared."
        if draft.vocabulary_size != self.vocabulary_size:
            return (
                f"{draft} knows {draft.vocabulary_size} tokens and this version "
                f"{self.vocabulary_size}: a draft model needs the same vocabulary."
            )
        return ""


def check_sampling(values: Any) -> None:
    try:
        require_sampling(values)
    except ValueError as error:
        raise ValidationError({"default_sampling": str(error)}) from error


def validate_source_url(value: str) -> None:
    try:
        check_form(value)
    except BadSourceError as error:
        raise ValidationError(str(error)) from error


class Source(models.Model):
    """A URL of a version's file; tried in order of ``position``."""

    version = models.ForeignKey(ModelVersion, on_delete=models.CASCADE, related_name="sources")
    position = models.PositiveSmallIntegerField(default=0)
    url = models.CharField(
        max_length=500,
        validators=[validate_source_url],
        help_text="hf://owner/repository/file, https://…, s3://bucket/key, file:///path or "
        "pypi://package==version/path; see docs/sources.md.",
    )
    only_public = models.BooleanField(
        "public addresses only",
        default=False,
        help_text="Refuse addresses of this machine and of private networks; set for API sources.",
    )

    class Meta:
        ordering = ["position"]
        constraints = [
            models.UniqueConstraint(fields=["version", "url"], name="one_source_per_url"),
        ]

    def __str__(self) -> str:
        return self.url
