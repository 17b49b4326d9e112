"""Models in the admin, with their versions and fallbacks; new ones are pulled from a source."""

from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.safestring import SafeString
from unfold.admin import TabularInline
from unfold.decorators import action, display
from unfold.forms import BaseDialogForm

from models_registry.access import ADD_VERSION
from models_registry.admin.base import ReadOnlyAdmin
from models_registry.admin.deletion import Deletion
from models_registry.admin.dialogs import PullForm
from models_registry.admin.display import (
    NOTHING,
    label,
    link,
    memory_labels,
    rollout_labels,
    size,
)
from models_registry.admin.fields import WordsField
from models_registry.admin.forms import RowForm
from models_registry.catalogue import rollout
from models_registry.catalogue.additions import add_version
from models_registry.errors import RegistryError
from models_registry.files.downloads import start_download
from models_registry.models import Fallback, Model, ModelVersion
from models_registry.models.routing import Role
from models_registry.sources import BadSourceError


class VersionInline(ReadOnlyAdmin, TabularInline):
    """A model's versions at a glance; they are edited on their own pages."""

    model = ModelVersion
    hide_title = True
    verbose_name_plural = "versions"
    fields = readonly_fields = ("version", "rollout", "file", "file_size", "quantised", "in_memory")

    def get_queryset(self, request: HttpRequest) -> QuerySet[ModelVersion]:
        """With what the columns need."""
        found: QuerySet[ModelVersion] = super().get_queryset(request)
        return found.select_related("model").prefetch_related("replicas__node")

    @display(description="version")
    def version(self, version: ModelVersion) -> SafeString:
        """Its page."""
        return link(version, version.label)

    @display(description="requests")
    def rollout(self, version: ModelVersion) -> SafeString:
        """Which requests it gets."""
        return rollout_labels(version)

    @display(description="file")
    def file(self, version: ModelVersion) -> SafeString:
        """Whether its file is here."""
        return label(version.file_state)

    @display(description="size")
    def file_size(self, version: ModelVersion) -> str:
        """Of its file."""
        return size(version.size_bytes)

    @display(description="quantisation")
    def quantised(self, version: ModelVersion) -> str:
        """As its header says."""
        return version.quantisation or NOTHING

    @display(description="in memory")
    def in_memory(self, version: ModelVersion) -> SafeString:
        """Where it is loaded."""
        return memory_labels(version)


class FallbackInline(TabularInline):
    """Who answers in its place, in order."""

    model = Fallback
    form = RowForm
    fk_name = "model"
    extra = 0
    # unfold puts the handle for dragging into the first column, and hides that of the position.
    fields = ("target", "position")
    ordering_field = "position"
    hide_ordering_field = True
    hide_title = True
    verbose_name_plural = "fallbacks, tried in this order"


class ModelForm(RowForm):
    """Lists are written as words."""

    capabilities = WordsField(help_text="Such as chat, tools.")
    languages = WordsField(help_text="Such as en, de.")
    roles = WordsField(
        help_text=f"What it is good for, best first, of {', '.join(Role.values)}.",
    )

    class Meta:
        model = Model
        fields = (
            "slug",
            "name",
            "type",
            "description",
            "licence",
            "capabilities",
            "languages",
            "roles",
        )


@admin.register(Model)
class ModelAdminPage(Deletion):
    """Models as clients name them."""

    form = ModelForm
    fieldsets = (
        (None, {"fields": (("slug", "name"), ("type", "licence"), "description")}),
        (None, {"fields": ("roles", ("capabilities", "languages"))}),
    )
    list_display = ("slug", "name", "kind", "role_words", "default_version", "in_memory")
    list_filter = ("type",)
    search_fields = ("slug", "name")
    inlines = (VersionInline, FallbackInline)
    actions_list = ("pull",)
    actions_detail = ("add_version", "roll_back")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Model]:
        """With what the columns need."""
        found: QuerySet[Model] = super().get_queryset(request)
        return found.prefetch_related("versions__replicas__node", "versions__model")

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        """The id names queues and records: it stays what it was when the model was added."""
        return ("slug",) if obj else ()

    @display(description="type", ordering="type")
    def kind(self, model: Model) -> str:
        """What it computes."""
        return model.type

    @display(description="roles")
    def role_words(self, model: Model) -> str:
        """What it is good for."""
        return ", ".join(model.roles_in_force) or NOTHING

    @display(description="default version")
    def default_version(self, model: Model) -> SafeString:
        """The version that requests get."""
        version = next((one for one in model.versions.all() if one.is_default), None)
        return link(version, version.label) if version else SafeString("none")

    @display(description="in memory")
    def in_memory(self, model: Model) -> SafeString:
        """Where its default version is loaded."""
        version = next((one for one in model.versions.all() if one.is_default), None)
        return memory_labels(version) if version else SafeString(NOTHING)

    def has_add_version_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Whether the user may register files."""
        return bool(request.user.has_perm(ADD_VERSION))

    @action(
        description="Pull from a source",
        icon="cloud_download",
        permissions=["add_version"],
        dialog={
            "title": "Pull a model from a source",
            "description": "Registers a version and downloads its file.",
            "form_class": PullForm,
            "form_submit_text": "Pull",
        },
    )
    def pull(self, request: HttpRequest, form: PullForm) -> HttpResponse:
        """Register a version of a new or known model, and fetch its file."""
        wanted = form.cleaned_data
        models = reverse("admin:models_registry_model_changelist")
        try:
            version = add_version(
                wanted["slug"],
                wanted["label"],
                wanted["url"],
                sha256=wanted["sha256"],
                actor=request.user,
            )
        except (RegistryError, BadSourceError) as error:
            self.refuse(request, error)
            return self.back(request, models)
        self.message_user(request, f"{version} is registered.", messages.SUCCESS)
        if wanted["download"]:
            start_download(version, request.user)
            self.message_user(request, "Its file is being downloaded.", messages.SUCCESS)
        page = reverse("admin:models_registry_modelversion_change", args=[version.pk])
        if request.headers.get("HX-Request"):
            return HttpResponse(headers={"HX-Redirect": page})
        return HttpResponseRedirect(page)

    @action(description="Add a version", icon="add", permissions=["add_version"])
    def add_version(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """The page for a new version of this model."""
        page = reverse("admin:models_registry_modelversion_add")
        return HttpResponseRedirect(f"{page}?model={self.row(object_id).pk}")

    @action(
        description="Roll back",
        icon="undo",
        permissions=["operate"],
        dialog={
            "title": "Return to the default before?",
            "description": "New requests get it at once; running ones finish where they are.",
            "form_submit_text": "Roll back",
            "form_class": BaseDialogForm,
        },
    )
    def roll_back(self, request: HttpRequest, form: BaseDialogForm, object_id: str) -> HttpResponse:
        """Make the default before the default again."""
        model = self.row(object_id)
        try:
            version = rollout.roll_back(model, request.user)
        except RegistryError as error:
            self.refuse(request, error)
        else:
            self.message_user(
                request, f"{version} is the default of {model} again.", messages.SUCCESS
            )
        page = reverse("admin:models_registry_model_change", args=[model.pk])
        return self.back(request, page)
