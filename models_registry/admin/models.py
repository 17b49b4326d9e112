"""Models in the admin, with their versions and fallbacks."""

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.safestring import SafeString
from unfold.admin import TabularInline
from unfold.decorators import action, display
from unfold.forms import BaseDialogForm

from models_registry.access import ADD_VERSION
from models_registry.admin import columns
from models_registry.admin.base import DeletableAdmin, ReadOnlyAdmin, RowForm, redirect
from models_registry.admin.dialogs import PullForm, dialog_action
from models_registry.admin.display import NOTHING, link, page_url
from models_registry.admin.fields import WordsField
from models_registry.catalogue import rollout
from models_registry.catalogue.additions import add_version
from models_registry.files.downloads import start_download
from models_registry.models import Fallback, Model, ModelVersion
from models_registry.rules.roles import Role


class VersionInline(ReadOnlyAdmin, TabularInline):
    model = ModelVersion
    hide_title = True
    verbose_name_plural = "versions"
    fields = readonly_fields = (
        *("version", columns.rollout, columns.file_state, columns.file_size),
        *("quantisation", columns.in_memory),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[ModelVersion]:
        versions = super().get_queryset(request)
        return versions.select_related("model").prefetch_related("replicas__node")

    @display(description="version")
    def version(self, version: ModelVersion) -> SafeString:
        return link(version, version.label)


class FallbackInline(TabularInline):
    model = Fallback
    form = RowForm
    fk_name = "model"
    extra = 0
    # unfold puts the drag handle into the first column and hides the column of the position.
    fields = ("target", "position")
    ordering_field = "position"
    hide_ordering_field = True
    hide_title = True
    verbose_name_plural = "fallbacks, tried in this order"


class ModelForm(RowForm):
    capabilities = WordsField(help_text="Such as chat, tools.")
    languages = WordsField(help_text="Such as en, de.")
    roles = WordsField(help_text=f"Best first. Roles: {', '.join(Role.values)}.")

    class Meta:
        model = Model
        fields = (
            *("slug", "name", "type", "description", "licence", "capabilities", "languages"),
            "roles",
        )


@admin.register(Model)
class ModelAdminPage(DeletableAdmin):
    form = ModelForm
    fieldsets = (
        (None, {"fields": (("slug", "name"), ("type", "licence"), "description")}),
        (None, {"fields": ("roles", ("capabilities", "languages"))}),
    )
    list_display = ("slug", "name", "type", "role_list", "default_version", "in_memory")
    list_filter = ("type",)
    search_fields = ("slug", "name")
    inlines = (VersionInline, FallbackInline)
    actions_list = ("pull",)
    actions_detail = ("add_version", "roll_back")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Model]:
        models = super().get_queryset(request)
        return models.prefetch_related("versions__replicas__node", "versions__model")

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        # Queues and records contain the id.
        return ("slug",) if obj else ()

    @display(description="roles")
    def role_list(self, model: Model) -> str:
        return ", ".join(model.roles_in_force) or NOTHING

    @display(description="default version")
    def default_version(self, model: Model) -> SafeString:
        version = model.default_version
        return link(version, version.label) if version else SafeString("none")

    @display(description="in memory")
    def in_memory(self, model: Model) -> SafeString:
        version = model.default_version
        return columns.in_memory(version) if version else SafeString(NOTHING)

    def has_add_version_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return bool(request.user.has_perm(ADD_VERSION))

    @dialog_action(
        "Pull from a source",
        icon="cloud_download",
        title="Pull a model from a source",
        text="Registers a version and downloads its file.",
        submit="Pull",
        form=PullForm,
        permission="add_version",
    )
    def pull(self, request: HttpRequest, form: PullForm) -> HttpResponse:
        wanted = form.cleaned_data
        source = (wanted["slug"], wanted["label"], wanted["url"])
        page = ""
        with self.refusals(request):
            version = add_version(*source, sha256=wanted["sha256"], actor=request.user)
            self.tell(request, f"{version} is registered.")
            if wanted["download"]:
                start_download(version, request.user)
                self.tell(request, "Its file is being downloaded.")
            page = page_url(version)
        return redirect(request, page) if page else self.back(request)

    @action(description="Add a version", icon="add", permissions=["add_version"])
    def add_version(self, request: HttpRequest, object_id: str) -> HttpResponse:
        page = reverse("admin:models_registry_modelversion_add")
        return HttpResponseRedirect(f"{page}?model={self.row(object_id).pk}")

    @dialog_action(
        "Roll back",
        icon="undo",
        title="Roll back to the previous default version?",
        text="New requests use it at once; running requests finish on their version.",
    )
    def roll_back(self, request: HttpRequest, form: BaseDialogForm, object_id: str) -> HttpResponse:
        model = self.row(object_id)
        with self.refusals(request):
            version = rollout.roll_back(model, request.user)
            self.tell(request, f"{version} is the default of {model} again.")
        return self.back(request, model)
