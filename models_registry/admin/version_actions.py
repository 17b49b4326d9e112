"""What can be done with a version in the admin, each after a dialog that says what it means."""

from typing import Any

from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from unfold.decorators import action
from unfold.enums import ActionVariant
from unfold.forms import BaseDialogForm

from models_registry.admin.dialogs import LoadForm
from models_registry.admin.rollout_actions import RolloutActions
from models_registry.audit import acting
from models_registry.errors import RegistryError
from models_registry.files.downloads import start_download
from models_registry.fleet import desired
from models_registry.fleet.nodes import pick_node
from models_registry.models import ModelVersion, Node

_OPERATE = ["operate"]


class VersionActions(RolloutActions):
    """Load, unload, pin, download, try; and what ``RolloutActions`` has."""

    actions = ("load_selected", "download_selected")
    actions_row = ("try_prompt", "load", "unload", "download")
    actions_detail = (
        "try_prompt",
        "load",
        "unload",
        {
            "title": "More",
            "items": [
                "download",
                "pin",
                "unpin",
                "make_default",
                "set_canary",
                "deprecate",
                "undo_deprecation",
            ],
        },
    )

    def get_actions_detail(self, request: HttpRequest, object_id: Any) -> list[Any]:
        """Leave out what would change nothing."""
        version = self.row(object_id)
        wanted = version.replicas.filter(desired="resident").count()
        pointless = {
            "load": 0 < Node.objects.filter(seen_at__isnull=False).count() <= wanted,
            "unload": not wanted,
            "pin": version.pinned,
            "unpin": not version.pinned,
            "make_default": version.is_default,
            "set_canary": version.is_default or version.is_deprecated,
            "deprecate": version.is_deprecated,
            "undo_deprecation": not version.is_deprecated,
            "try_prompt": version.model.type != "text_generation",
        }
        prefix = "models_registry_modelversion_"
        return [
            one
            for one in super().get_actions_detail(request, object_id)
            if not pointless.get(one.action_name.removeprefix(prefix), False)
        ]

    @action(description="Try a prompt", icon="chat", permissions=_OPERATE)
    def try_prompt(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """The page on which the version answers."""
        return HttpResponseRedirect(reverse("try_version", args=[self.row(object_id).key]))

    @action(
        description="Load",
        icon="play_arrow",
        permissions=_OPERATE,
        dialog={
            "title": "Load this version?",
            "description": "Idle models make room for it if they must.",
            "form_class": LoadForm,
            "form_submit_text": "Load",
        },
    )
    def load(self, request: HttpRequest, form: LoadForm, object_id: str) -> HttpResponse:
        """Want a replica of it."""
        version = self.row(object_id)
        name = form.cleaned_data["node"]
        node = Node.objects.filter(name=name).first() if name else None
        self._load(request, version, node)
        return self.back_to(request, version)

    @action(
        description="Unload",
        icon="stop",
        permissions=_OPERATE,
        variant=ActionVariant.DANGER,
        dialog={
            "title": "Unload this version everywhere?",
            "description": "What runs on it finishes first. The next request for it waits until "
            "it is loaded again.",
            "form_submit_text": "Unload",
            "form_class": BaseDialogForm,
        },
    )
    def unload(self, request: HttpRequest, form: BaseDialogForm, object_id: str) -> HttpResponse:
        """Want no replica of it."""
        version = self.row(object_id)
        try:
            count = desired.unload(version, request.user)
        except RegistryError as error:
            self.refuse(request, str(error))
        else:
            self.tell(request, f"{version}: {count} replica(s) are being unloaded.")
        return self.back_to(request, version)

    @action(
        description="Download",
        icon="download",
        permissions=_OPERATE,
        dialog={
            "title": "Download the file?",
            "description": "From the version's sources, in their order. A file that is there is "
            "verified.",
            "form_submit_text": "Download",
            "form_class": BaseDialogForm,
        },
    )
    def download(self, request: HttpRequest, form: BaseDialogForm, object_id: str) -> HttpResponse:
        """Ask for its file."""
        version = self.row(object_id)
        download = start_download(version, request.user)
        self.tell(request, f"The file of {version} is being downloaded.")
        url = reverse("admin:models_registry_download_change", args=[download.pk])
        return self.back(request, url)

    @action(
        description="Pin",
        icon="keep",
        permissions=_OPERATE,
        dialog={
            "title": "Keep this version in memory?",
            "description": "It is loaded, and never put out for others.",
            "form_submit_text": "Pin",
            "form_class": BaseDialogForm,
        },
    )
    def pin(self, request: HttpRequest, form: BaseDialogForm, object_id: str) -> HttpResponse:
        """Keep it in memory whatever comes."""
        return self._set_pinned(request, object_id, is_pinned=True)

    @action(
        description="Unpin",
        icon="keep_off",
        permissions=_OPERATE,
        dialog={
            "title": "Unpin this version?",
            "description": "It stays in memory until its keep-alive is over, or its room is "
            "needed.",
            "form_submit_text": "Unpin",
            "form_class": BaseDialogForm,
        },
    )
    def unpin(self, request: HttpRequest, form: BaseDialogForm, object_id: str) -> HttpResponse:
        """Let it make room for others again."""
        return self._set_pinned(request, object_id, is_pinned=False)

    @action(description="Load", permissions=_OPERATE)
    def load_selected(self, request: HttpRequest, versions: QuerySet[ModelVersion]) -> None:
        """Want a replica of each."""
        for version in versions:
            self._load(request, version, None)

    @action(description="Download the file", permissions=_OPERATE)
    def download_selected(self, request: HttpRequest, versions: QuerySet[ModelVersion]) -> None:
        """Ask for the file of each."""
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
        return self.back_to(request, version)
