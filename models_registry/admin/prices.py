"""Prices on the page of a version: added, and changed or deleted only before they are in force."""

from decimal import Decimal
from typing import Any, ClassVar, Final

from django import forms
from django.core.exceptions import ValidationError
from django.utils import timezone
from unfold.admin import TabularInline

from models_registry.admin.base import RowForm
from models_registry.catalogue.repricing import Repricing, reprice
from models_registry.errors import RegistryError
from models_registry.models.pricing import NOTICE, Price
from models_registry.rules.price import NANO

_PER_MILLION: Final = (
    *("prompt_usd_per_million_tokens", "cached_usd_per_million_tokens"),
    "completion_usd_per_million_tokens",
)
_USUAL_USD: Final = (Decimal("0.001"), Decimal(1000))
_IN_FORCE: Final = "This price is or was in force. Add another price, with its date."


def is_in_force(price: Price) -> bool:
    """Whether requests may have been charged with a stored price."""
    return price.pk is not None and price.valid_from <= timezone.now()


class PriceForm(RowForm):
    class Meta:
        # Short, so that all of a price is in view.
        labels: ClassVar[dict[str, str]] = {
            "prompt_usd_per_million_tokens": "Prompt, $/million",
            "cached_usd_per_million_tokens": "Cached, $/million",
            "completion_usd_per_million_tokens": "Completion, $/million",
            "usd_per_device_hour": "Device, $/hour",
        }

    is_sure = forms.BooleanField(
        label="sure", required=False, help_text="Tick when the page asks whether it is right."
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.is_in_force = is_in_force(self.instance)
        if self.is_in_force:
            for field in self.fields.values():
                field.widget.attrs["readonly"] = True

    def clean(self) -> dict[str, Any]:
        values = super().clean() or {}
        changed = [name for name in self.changed_data if name != "is_sure"]
        if self.is_in_force and changed:
            raise ValidationError(_IN_FORCE)
        for name in set(_PER_MILLION) & set(changed):
            usd = values.get(name)
            if usd and not _USUAL_USD[0] <= usd <= _USUAL_USD[1] and not values.get("is_sure"):
                text = f"{usd:f} US dollars for a million tokens, not for one? Tick “sure” if so."
                self.add_error(name, text)
        return values


class PriceFormSet(forms.BaseInlineFormSet):
    """Asks before costs of the past are corrected."""

    def clean(self) -> None:
        super().clean()
        if any(is_in_force(form.instance) for form in self.deleted_forms):
            raise ValidationError(_IN_FORCE)
        if any(self.errors) or self.instance.model_id is None:
            return
        try:
            requests, delta_nano = self.reprice("", is_trial=True)
        except RegistryError as error:
            raise ValidationError(str(error)) from error
        if requests and not all(form.cleaned_data["is_sure"] for form in self._late()):
            raise ValidationError(
                f"This price is for the past: {amount(requests, delta_nano)}. "
                "Tick “sure” to save the price and the corrections."
            )

    def reprice(self, made_by: str, *, is_trial: bool) -> tuple[int, int]:
        """Correct the costs of requests that came while a new price was valid, but not known."""
        late = [form.instance.valid_from for form in self._late()]
        if not late:
            return 0, 0
        rows = [form.instance for form in self._kept()]
        later = [row.valid_from for row in rows if row.valid_from > max(late)]
        repricing = Repricing(
            version_key=self.instance.key,
            prices=tuple(row.value for row in rows),
            since=min(late),
            until=min(later, default=None),
            made_by=made_by,
        )
        return reprice(repricing, is_trial=is_trial)

    def _kept(self) -> list[Any]:
        return [
            form
            for form in self.forms
            if (form.instance.pk or form.has_changed()) and form not in self.deleted_forms
        ]

    def _late(self) -> list[Any]:
        """The changed prices that not all processes know before they are in force."""
        known_at = timezone.now() + NOTICE
        forms_ = [form for form in self._kept() if not form.is_in_force and form.has_changed()]
        return [form for form in forms_ if form.instance.valid_from <= known_at]


class PriceInline(TabularInline):
    model = Price
    form = PriceForm
    formset = PriceFormSet
    extra = 0
    tab = True
    hide_title = True
    fields = ("valid_from", *_PER_MILLION, "usd_per_device_hour", "is_sure")


def amount(requests: int, delta_nano: int) -> str:
    """The corrections in words."""
    noun = "request gets a correction" if requests == 1 else "requests get corrections"
    return f"{requests} {noun} of {Decimal(delta_nano) / NANO:+f} US dollars"
