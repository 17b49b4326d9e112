"""Actions on versions: load, unload, download, pin, roll out, try a prompt."""

from typing import Any

from django.contrib import messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from unfold.decorators import action
from unfold.enums import ActionVariant
from unfold.forms import BaseDialogForm

from models_registry.admin.base import RegistryAdmin
from models_registry.admin.dialogs import CanaryForm, DeprecateForm, LoadForm, dialog_action
from models_registry.audit import acting
from models_registry.catalogue import rollout
from models_registry.errors import RegistryError
from models_registry.files.downloads import start_download
from models_registry.fleet import desired
from models_registry.fleet.nodes import pick_node
from models_registry.models import Model, ModelVersion, Node, Replica


class VersionActions(RegistryAdmin):
    actions = ("load_selected", "download_selected")
    actions_row = ("try_prompt", "load", "unload", "download")
    actions_detail = (
        *("try_prompt", "load", "unload"),
        {
            "title": "More",
            "items": [
                *("download", "pin", "unpin", "make_default", "set_canary", "deprecate"),
                "undo_deprecation",
            ],
        },
    )

    def get_actions_detail(self, request: HttpRequest, object_id: Any) -> list[Any]:
        """Hide actions that would change nothing."""
        version = self.row(object_id)
        wanted = version.replicas.filter(desired=Replica.Desired.RESIDENT).count()
        hidden = {
            "load": 0 < Node.objects.filter(seen_at__isnull=False).count() <= wanted,
            "unload": not wanted,
            "pin": version.pinned,
            "unpin": not version.pinned,
            "make_default": version.is_default,
            "set_canary": version.is_default or version.is_deprecated,
            "deprecate": version.is_deprecated,
            "undo_deprecation": not version.is_deprecated,
            "try_prompt": version.model.type != Model.Type.TEXT_GENERATION,
        }
        prefix = "models_registry_modelversion_"
        return [
            one
            for one in super().get_actions_detail(request, object_id)
            if not hidden.get(one.action_name.removeprefix(prefix), False)
        ]

    @action(description="Try a prompt", icon="chat", permissions=["operate"])
    def try_prompt(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return HttpResponseRedirect(reverse("try_version", args=[self.row(object_id).key]))

    @dialog_action(
        "Load",
        icon="play_arrow",
        title="Load this version?",
        text="Idle models are evicted if memory is short.",
        form=LoadForm,
    )
    def load(self, request: HttpRequest, form: LoadForm, object_id: str) -> HttpResponse:
        version = self.row(object_id)
        name = form.cleaned_data["node"]
        node = Node.objects.filter(name=name).first() if name else None
        self._load(request, version, node)
        return self.back(request, version)

    @dialog_action(
        "Unload",
        icon="stop",
        title="Unload this version everywhere?",
        text="Running requests finish first. The next request waits until it is loaded again.",
        variant=ActionVariant.DANGER,
    )
    def unload(self, request: HttpRequest, form: BaseDialogForm, object_id: str) -> HttpResponse:
        version = self.row(object_id)
        with self.refusals(request):
            count = desired.unload(version, request.user)
            self.tell(request, f"{version}: {count} replica(s) are being unloaded.")
        return self.back(request, version)

    @dialog_action(
        "Download",
        icon="download",
        title="Download the file?",
        text="Tries the sources of the version in order. An existing file is only verified.",
    )
    def download(self, request: HttpRequest, form: BaseDialogForm, object_id: str) -> HttpResponse:
        version = self.row(object_id)
        download = start_download(version, request.user)
        self.tell(request, f"The file of {version} is being downloaded.")
        return self.back(request, download)

    @dialog_action(
        "Pin",
        icon="keep",
        title="Keep this version in memory?",
        text="It is loaded and never evicted.",
    )
    def pin(self, request: HttpRequest, form: BaseDialogForm, object_id: str) -> HttpResponse:
        return self._set_pinned(request, object_id, is_pinned=True)

    @dialog_action(
        "Unpin",
        icon="keep_off",
        title="Unpin this version?",
        text="It stays in memory until its keep-alive ends or its memory is needed.",
    )
    def unpin(self, request: HttpRequest, form: BaseDialogForm, object_id: str) -> HttpResponse:
        return self._set_pinned(request, object_id, is_pinned=False)

    @dialog_action(
        "Make default",
        icon="star",
        title="Make this version the default?",
        text="New requests without a version label use it at once; running requests finish on "
        "their version.",
    )
    def make_default(
        self, request: HttpRequest, form: BaseDialogForm, object_id: str
    ) -> HttpResponse:
        version = self.row(object_id)
        with self.refusals(request):
            rollout.set_default(version, request.user)
            self.tell(request, f"{version} is the default of {version.model}.")
            if not version.replicas.filter(state=Replica.State.READY).exists():
                warning = "It is not in memory: the first request waits until it is loaded."
                self.message_user(request, warning, messages.WARNING)
        return self.back(request, version)

    @dialog_action(
        "Set canary share",
        icon="percent",
        title="Share of requests for this version",
        text="The default version gets the rest.",
        submit="Set",
        form=CanaryForm,
    )
    def set_canary(self, request: HttpRequest, form: CanaryForm, object_id: str) -> HttpResponse:
        version, percent = self.row(object_id), form.cleaned_data["percent"]
        with self.refusals(request, version):
            rollout.set_canary(version, percent, request.user)
            self.tell(request, f"{version} gets {percent} % of the requests.")
        return self.back(request, version)

    @dialog_action(
        "Deprecate",
        icon="warning",
        title="Deprecate this version?",
        text="Its answers carry a warning, and its canary share ends.",
        form=DeprecateForm,
        variant=ActionVariant.WARNING,
    )
    def deprecate(self, request: HttpRequest, form: DeprecateForm, object_id: str) -> HttpResponse:
        version, note = self.row(object_id), form.cleaned_data["note"]
        rollout.deprecate(version, note, request.user)
        self.tell(request, f"{version} is deprecated.")
        return self.back(request, version)

    @dialog_action(
        "Undo deprecation",
        icon="undo",
        title="Undo the deprecation?",
        text="Its answers no longer carry a warning.",
        submit="Undo",
    )
    def undo_deprecation(
        self, request: HttpRequest, form: BaseDialogForm, object_id: str
    ) -> HttpResponse:
        version = self.row(object_id)
        rollout.undo_deprecation(version, request.user)
        self.tell(request, f"{version} is no longer deprecated.")
        return self.back(request, version)

    @action(description="Load", permissions=["operate"])
    def load_selected(self, request: HttpRequest, versions: QuerySet[ModelVersion]) -> None:
        for version in versions:
            self._load(request, version, None)

    @action(description="Download the file", permissions=["operate"])
    def download_selected(self, request: HttpRequest, versions: QuerySet[ModelVersion]) -> None:
        for version in versions:
            start_download(version, request.user)
            self.tell(request, f"The file of {version} is being downloaded.")

    def _load(self, request: HttpRequest, version: ModelVersion, node: Node | None) -> None:
        if version.file_state != ModelVersion.FileState.READY:
            self.refuse(request, f"{version}: its file is {version.file_state}. Download it first.")
            return
        try:
            chosen = node or pick_node(version)
            desired.load(version, chosen, request.user)
        except RegistryError as error:
            self.refuse(request, f"{version} cannot be loaded. {error}")
        else:
            self.tell(request, f"{version} is being loaded on {chosen}.")

    def _set_pinned(self, request: HttpRequest, object_id: str, *, is_pinned: bool) -> HttpResponse:
        version = self.row(object_id)
        version.pinned = is_pinned
        with acting(request.user):
            version.save(update_fields=["pinned"])
        self.tell(request, f"{version} is {'pinned' if is_pinned else 'no longer pinned'}.")
        return self.back(request, version)
