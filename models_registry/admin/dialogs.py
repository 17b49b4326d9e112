"""Actions that ask first, and the forms of their dialogs."""

from typing import Any

from django import forms
from unfold.decorators import action
from unfold.enums import ActionVariant
from unfold.forms import BaseDialogForm
from unfold.widgets import (
    UnfoldAdminIntegerFieldWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminTextInputWidget,
    UnfoldBooleanSwitchWidget,
)

from models_registry.fleet.nodes import answering, faults_of
from models_registry.models import ModelVersion, Node


def dialog_action(
    description: str,
    *,
    icon: str,
    title: str,
    text: str,
    submit: str = "",
    form: type[BaseDialogForm] = BaseDialogForm,
    permission: str = "operate",
    variant: ActionVariant = ActionVariant.DEFAULT,
) -> Any:
    """Decorate an action with a dialog; ``submit`` is its button, by default ``description``."""
    return action(
        description=description,
        icon=icon,
        permissions=[permission],
        variant=variant,
        dialog={
            "title": title,
            "description": text,
            "form_class": form,
            "form_submit_text": submit or description,
        },
    )


class LoadForm(BaseDialogForm):
    node = forms.ChoiceField(label="Node", required=False, widget=UnfoldAdminSelectWidget())

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        version = ModelVersion.objects.select_related("model").filter(pk=self.object_id).first()
        nodes = list(Node.objects.filter(seen_at__isnull=False))
        alive = answering(nodes)
        faults = faults_of(version, nodes) if version is not None else {}
        choices = [("", "The node with most free memory")]
        for node, fault in faults.items():
            warnings = [] if node in alive else ["silent"]
            if fault:
                warnings.append("too small")
            choices.append(
                (node.name, f"{node.name} ({', '.join(warnings)})" if warnings else node.name)
            )
        field = self.fields["node"]
        if isinstance(field, forms.ChoiceField):
            field.choices = choices


class DeprecateForm(BaseDialogForm):
    note = forms.CharField(
        label="Note",
        required=False,
        max_length=200,
        widget=UnfoldAdminTextInputWidget(),
        help_text="Why, and what to use instead. Sent with each answer.",
    )


class CanaryForm(BaseDialogForm):
    percent = forms.IntegerField(
        label="Share in percent",
        min_value=0,
        max_value=100,
        widget=UnfoldAdminIntegerFieldWidget(),
        help_text="Of the requests without a version label. 0 ends the canary.",
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        shares = ModelVersion.objects.filter(pk=self.object_id)
        self.fields["percent"].initial = shares.values_list("canary_percent", flat=True).first()


class PullForm(BaseDialogForm):
    url = forms.CharField(
        label="Source",
        max_length=500,
        widget=UnfoldAdminTextInputWidget(attrs={"placeholder": "hf://owner/repository/file.gguf"}),
        help_text="hf://, https://, s3://, file:// or pypi://; see docs/sources.md.",
    )
    slug = forms.CharField(
        label="Model id",
        max_length=100,
        widget=UnfoldAdminTextInputWidget(),
        help_text="The value of model in requests. If the model exists, a version is added to it.",
    )
    label = forms.CharField(
        label="Version label", max_length=50, initial="v1", widget=UnfoldAdminTextInputWidget()
    )
    sha256 = forms.CharField(
        label="SHA-256",
        required=False,
        max_length=64,
        widget=UnfoldAdminTextInputWidget(),
        help_text="Optional. If empty, the first download sets it.",
    )
    download = forms.BooleanField(
        label="Download it now", required=False, initial=True, widget=UnfoldBooleanSwitchWidget()
    )
