"""Models, their versions, and where a version's file comes from."""

from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import models, transaction

from models_registry.models.facts import FileFacts
from models_registry.models.pricing import Prices
from models_registry.models.residency import ResidencyOptions
from models_registry.models.rollout import Rollout
from models_registry.models.routing import validate_roles
from models_registry.models.runtime import RuntimeOptions
from models_registry.rules.capabilities import capabilities_with
from models_registry.rules.chat_templates import fault_of_template
from models_registry.rules.names import validate_file_name, validate_label, validate_slug
from models_registry.rules.sampling import require_sampling
from models_registry.sources import BadSourceError, check_form


class Hardware(models.TextChoices):
    """What a version or a preset was chosen for, as its publisher says."""

    LAPTOP = "laptop", "16 GB laptop"
    LAPTOP_ALONE = "laptop_alone", "16 GB laptop that does nothing else"
    SERVER = "server", "server with a GPU of 24 GB or more"


class Model(models.Model):
    """A model as clients name it, whatever its versions."""

    class Type(models.TextChoices):
        TEXT_GENERATION = "text_generation"
        EMBEDDING = "embedding"
        TEXT2TEXT = "text2text"
        CLASSIFICATION = "classification"
        VISION = "vision"

    slug = models.CharField(
        "id",
        max_length=100,
        unique=True,
        validators=[validate_slug],
        help_text="What requests send as model.",
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
        help_text='What it is good for, best first, such as ["coder", "primary"].',
    )
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["slug"]

    def __str__(self) -> str:
        return self.slug

    @property
    def roles_in_force(self) -> list[str]:
        """Its roles, or those that ``INFERENCE_MODEL_ROLES`` gives it instead."""
        return list(settings.INFERENCE.model_roles.get(self.slug, self.roles))


class ModelVersion(RuntimeOptions, ResidencyOptions, Rollout, Prices, FileFacts):
    """One file of a model, with how it is to be loaded.

    Facts read from the file's header are null until the file is there.
    """

    class FileState(models.TextChoices):
        ABSENT = "absent"
        FETCHING = "fetching"
        READY = "ready"
        FAILED = "failed"

    model = models.ForeignKey(Model, on_delete=models.CASCADE, related_name="versions")
    label = models.CharField(max_length=50, validators=[validate_label])
    file_name = models.CharField(
        max_length=255, validators=[validate_file_name], help_text="Below the models directory."
    )
    file_state = models.CharField(
        max_length=10, choices=FileState.choices, default=FileState.ABSENT, editable=False
    )
    file_error = models.TextField(blank=True, editable=False)
    sha256 = models.CharField(max_length=64, blank=True)
    size_bytes = models.BigIntegerField(null=True, blank=True)
    documented_memory_bytes = models.BigIntegerField(
        null=True, blank=True, help_text="What its publisher says it takes."
    )
    hardware = models.CharField(max_length=20, choices=Hardware.choices, blank=True)

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

    @property
    def is_all_of_its_model(self) -> bool:
        """Whether its model is what its file says: nobody, and no other file, says otherwise.

        Type and capabilities of such a model are those of the file, once that is here, and those
        of another that takes its place.
        """
        if self.model.capabilities not in ([], self.capabilities):
            return False
        others = self.model.versions.exclude(pk=self.pk)
        return not others.exclude(architecture="").exists()

    @property
    def sequence_limit_tokens(self) -> int:
        """The longest sequence a replica can hold: the model's context or the whole KV cache."""
        return min(self.context_length_tokens or self.kv_cells, self.kv_cells)

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Save it; what its file was found to be capable of follows a new template.

        So does its model, where it is what the file was found to be.
        """
        fields = kwargs.get("update_fields")
        with transaction.atomic():
            if self.capabilities and (fields is None or "chat_template" in fields):
                self._follow_template()
                if fields is not None:
                    kwargs["update_fields"] = {*fields, "capabilities"}
            super().save(*args, **kwargs)

    def _follow_template(self) -> None:
        before = self.capabilities
        self.capabilities = capabilities_with(before, self.chat_template)
        if before != self.capabilities and self.model.capabilities == before:
            self.model.capabilities = self.capabilities
            self.model.save(update_fields=["capabilities"])

    @property
    def usable_draft(self) -> "ModelVersion | None":
        """The model that guesses tokens ahead; None also while its file is not there."""
        draft = self.draft_model
        return draft if draft and draft.file_state == self.FileState.READY else None

    def clean(self) -> None:
        """Raise ``ValidationError`` where options contradict each other or other versions."""
        super().clean()
        check_sampling(self.default_sampling)
        self._check_template()
        if self.canary_percent:
            others = ModelVersion.objects.filter(model=self.model_id).exclude(pk=self.pk)
            taken = sum(others.values_list("canary_percent", flat=True))
            if taken + self.canary_percent > 100:
                raise ValidationError(
                    {"canary_percent": f"Other versions have {taken} %: at most {100 - taken}."}
                )
        same_file = ModelVersion.objects.filter(file_name=self.file_name).exclude(pk=self.pk)
        other = same_file.select_related("model").first()
        if other is not None:
            raise ValidationError({"file_name": f"This is the file of {other}. Choose another."})
        if self.draft_model is not None:
            reason = self._reason_against(self.draft_model)
            if reason:
                raise ValidationError({"draft_model": reason})

    def _check_template(self) -> None:
        """Raise ``ValidationError`` for a new template that is none; the file's own is let be."""
        fault = fault_of_template(self.chat_template)
        own = ModelVersion.objects.filter(pk=self.pk, chat_template=self.chat_template)
        if fault and not own.exists():
            raise ValidationError({"chat_template": f"This is no Jinja template. {fault}"})

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


def check_sampling(values: Any) -> None:
    """Raise ``ValidationError`` for ``default_sampling`` that is none."""
    try:
        require_sampling(values)
    except ValueError as error:
        raise ValidationError({"default_sampling": str(error)}) from error


def validate_source_url(value: str) -> None:
    """Raise ``ValidationError`` unless ``value`` is written as a source URL."""
    try:
        check_form(value)
    except BadSourceError as error:
        raise ValidationError(str(error)) from error


class Source(models.Model):
    """A place to fetch a version's file from; tried in order of ``position``."""

    version = models.ForeignKey(ModelVersion, on_delete=models.CASCADE, related_name="sources")
    position = models.PositiveSmallIntegerField(default=0)
    url = models.CharField(
        max_length=500,
        validators=[validate_source_url],
        help_text="hf://owner/repository/file, https://…, s3://bucket/key, file:///path or "
        "pypi://package==version/path; docs/sources.md has them all.",
    )
    only_public = models.BooleanField(
        "public addresses only",
        default=False,
        help_text="Given over the API: leads neither to this machine nor to private networks.",
    )

    class Meta:
        ordering = ["position"]
        constraints = [
            models.UniqueConstraint(fields=["version", "url"], name="one_source_per_url"),
        ]

    def __str__(self) -> str:
        return self.url
