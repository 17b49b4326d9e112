"""Forms of the dialogs that ask before an action."""

from typing import Any

from django import forms
from unfold.forms import BaseDialogForm
from unfold.widgets import (
    UnfoldAdminIntegerFieldWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminTextInputWidget,
    UnfoldBooleanSwitchWidget,
)

from models_registry.fleet.nodes import answering, faults_of
from models_registry.models import ModelVersion, Node

_BEST = ("", "The machine with most room")


class LoadForm(BaseDialogForm):
    """Where to load a version."""

    node = forms.ChoiceField(label="Where", required=False, widget=UnfoldAdminSelectWidget())

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        version = ModelVersion.objects.select_related("model").filter(pk=self.object_id).first()
        nodes = list(Node.objects.filter(seen_at__isnull=False))
        awake = answering(nodes)
        faults = faults_of(version, nodes) if version is not None else {}
        choices = [
            (node.name, _label(node, node in awake, bool(fault))) for node, fault in faults.items()
        ]
        field = self.fields["node"]
        if isinstance(field, forms.ChoiceField):
            field.choices = [_BEST, *choices]


def _label(node: Node, is_awake: bool, is_too_small: bool) -> str:
    """A machine's name, with what speaks against it."""
    faults = [] if is_awake else ["silent"]
    if is_too_small:
        faults.append("too small")
    return f"{node.name} ({', '.join(faults)})" if faults else node.name


class DeprecateForm(BaseDialogForm):
    """Why a version is deprecated."""

    note = forms.CharField(
        label="Note",
        required=False,
        max_length=200,
        widget=UnfoldAdminTextInputWidget(),
        help_text="Why, and what to use instead. It goes out with each answer.",
    )


class CanaryForm(BaseDialogForm):
    """The share of a canary."""

    percent = forms.IntegerField(
        label="Share in percent",
        min_value=0,
        max_value=100,
        widget=UnfoldAdminIntegerFieldWidget(),
        help_text="Of the requests that name only the model. 0 ends it.",
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        shares = ModelVersion.objects.filter(pk=self.object_id)
        self.fields["percent"].initial = shares.values_list("canary_percent", flat=True).first()


class PullForm(BaseDialogForm):
    """A new version and where its file is."""

    url = forms.CharField(
        label="Source",
        max_length=500,
        widget=UnfoldAdminTextInputWidget(attrs={"placeholder": "hf://owner/repository/file.gguf"}),
        help_text="hf://, https://, s3://, file:// or pypi://; docs/sources.md has them all.",
    )
    slug = forms.CharField(
        label="Model id",
        max_length=100,
        widget=UnfoldAdminTextInputWidget(),
        help_text="What requests send as model. A new model is added; to one that exists, a "
        "version.",
    )
    label = forms.CharField(
        label="Version label", max_length=50, initial="v1", widget=UnfoldAdminTextInputWidget()
    )
    sha256 = forms.CharField(
        label="SHA-256",
        required=False,
        max_length=64,
        widget=UnfoldAdminTextInputWidget(),
        help_text="Empty to take what comes; it is then held to that.",
    )
    download = forms.BooleanField(
        label="Download it now", required=False, initial=True, widget=UnfoldBooleanSwitchWidget()
    )
