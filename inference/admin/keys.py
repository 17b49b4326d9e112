"""API keys in the admin: make one, see its secret once, revoke it."""

from typing import Any, ClassVar

from django import forms
from django.contrib import admin, messages
from django.db.models import QuerySet
from django.forms import ModelForm
from django.http import HttpRequest
from unfold.admin import ModelAdmin
from unfold.decorators import action

from inference.models import (
    KEY_PREFIX,
    ApiKey,
    Scope,
    key_digest,
    new_secret,
    scopes_of,
    usual_scopes,
)


class ApiKeyForm(ModelForm):
    """Scopes as check boxes; a user may give a key only ``makers_scopes``."""

    makers_scopes: ClassVar[frozenset[str]] = frozenset()
    scopes = forms.MultipleChoiceField(
        choices=[(value, f"{value}: {label}") for value, label in Scope.choices],
        widget=forms.CheckboxSelectMultiple,
        initial=usual_scopes,
    )

    class Meta:
        model = ApiKey
        fields = ("user", "team", "name", "scopes", "expires_at")

    def clean_scopes(self) -> list[str]:
        ticked: list[str] = self.cleaned_data["scopes"]
        held = set(self.instance.scopes) if self.instance.pk else set()
        excess = set(ticked) - held - self.makers_scopes
        if excess:
            raise forms.ValidationError(f"You may not give a key: {', '.join(sorted(excess))}.")
        return ticked


@admin.register(ApiKey)
class ApiKeyAdmin(ModelAdmin):
    """Shows the secret of a key once, when it is made."""

    form = ApiKeyForm
    list_display = (
        *("name", "hint", "user", "team"),
        *("created_at", "last_used_at", "expires_at", "state"),
    )
    list_select_related = ("user", "team")
    search_fields = ("name", "hint", "user__username", "team__name")
    actions = ("revoke_keys",)

    @admin.display(description="state")
    def state(self, key: ApiKey) -> str:
        return "revoked" if key.revoked_at else "active"

    def get_form(
        self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any
    ) -> Any:
        form = super().get_form(request, obj, change, **kwargs)
        form.makers_scopes = frozenset(scopes_of(request.user))
        return form

    def save_model(self, request: HttpRequest, key: ApiKey, form: ModelForm, change: bool) -> None:
        if not change:
            secret = new_secret()
            key.digest, key.hint = key_digest(secret), secret[: len(KEY_PREFIX) + 4]
            self.message_user(
                request, f"Copy the key now, it is not shown again: {secret}", messages.WARNING
            )
        super().save_model(request, key, form, change)

    @action(description="Revoke")
    def revoke_keys(self, request: HttpRequest, keys: QuerySet[ApiKey]) -> None:
        for key in keys:
            key.revoke()
        self.message_user(request, f"{len(keys)} key(s) revoked.")

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Keys are revoked, not deleted: records refer to them."""
        return False
