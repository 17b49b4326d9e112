"""Prices on the page of a version: added, and changed or deleted only before they are in force."""

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Final

from django import forms
from django.conf import settings
from django.core.exceptions import ValidationError
from django.utils import timezone
from unfold.admin import TabularInline

from models_registry.admin.base import RowForm
from models_registry.models.pricing import NOTICE, Price

_PER_MILLION: Final = (
    *("prompt_usd_per_million_tokens", "cached_usd_per_million_tokens"),
    "completion_usd_per_million_tokens",
)
# The time in which somebody fills in the form, after typing the present time.
_FILLING_IN: Final = timedelta(minutes=5)
_USUAL_USD: Final = (Decimal("0.001"), Decimal(1000))
_IN_FORCE: Final = "This price is or was in force. Add another price, with its date."


def _is_past(moment: datetime | None) -> bool:
    """Whether requests may be charged before all processes know a price from this moment on."""
    return moment is not None and moment <= timezone.now() + NOTICE


class PriceForm(RowForm):
    is_sure = forms.BooleanField(
        label="sure", required=False, help_text="Tick when the page asks whether it is right."
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.is_stored = self.instance.pk is not None
        self.is_in_force = self.is_stored and _is_past(self.instance.valid_from)
        if self.is_in_force:
            for field in self.fields.values():
                field.widget.attrs["readonly"] = True

    def clean(self) -> dict[str, Any]:
        values = super().clean() or {}
        changed = {*self.changed_data} - {"is_sure"}
        is_past = _is_past(values.get("valid_from"))
        if changed and self.is_stored and (self.is_in_force or is_past):
            raise ValidationError(_IN_FORCE)
        if changed and is_past:
            self._check_past(values["valid_from"], is_sure=values["is_sure"])
        for name in changed & {*_PER_MILLION}:
            usd = values.get(name)
            if usd and not _USUAL_USD[0] <= usd <= _USUAL_USD[1] and not values["is_sure"]:
                text = f"{usd:f} US dollars for a million tokens, not for one? Tick “sure” if so."
                self.add_error(name, text)
        return values

    def _check_past(self, valid_from: datetime, *, is_sure: bool) -> None:
        now = timezone.now()
        oldest = now - timedelta(days=settings.USAGE_RECORD_DAYS)
        if valid_from < oldest:
            raise ValidationError(
                f"Records are kept for {settings.USAGE_RECORD_DAYS} days, so costs from before "
                f"{oldest:%Y-%m-%d %H:%M} (UTC) cannot be corrected. Choose a later time."
            )
        if not is_sure and valid_from < now - _FILLING_IN:
            raise ValidationError(
                "This price is for the past: requests since then get corrections of their costs. "
                "Tick “sure” if so."
            )
        self.instance.late_at = now


class PriceFormSet(forms.BaseInlineFormSet):
    def clean(self) -> None:
        super().clean()
        deleted: list[Any] = self.deleted_forms
        if any(form.is_in_force for form in deleted):
            raise ValidationError(_IN_FORCE)


class PriceInline(TabularInline):
    model = Price
    form = PriceForm
    formset = PriceFormSet
    extra = 0
    tab = True
    hide_title = True
    fields = ("valid_from", *_PER_MILLION, "usd_per_device_hour", "is_sure")
