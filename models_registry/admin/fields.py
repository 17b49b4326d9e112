"""Form fields that show JSON values as text."""

import re
from typing import Any, Final

from django import forms
from django.core.exceptions import ValidationError
from unfold.widgets import UnfoldAdminTextareaWidget, UnfoldAdminTextInputWidget

_BUDGET: Final = re.compile(r"(\S+?)\s*:\s*(\d+(?:\.\d+)?)\s*([GM])iB", re.IGNORECASE)
_UNITS: Final = {"G": 1 << 30, "M": 1 << 20}


class _JsonTextField(forms.CharField):
    """An optional field; the model field validates the value."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{"required": False, **kwargs})

    def validate(self, value: Any) -> None:
        pass

    def run_validators(self, value: Any) -> None:
        pass


class WordsField(_JsonTextField):
    """A list of words, written with commas: ``a, b``."""

    widget = UnfoldAdminTextInputWidget

    def prepare_value(self, value: Any) -> Any:
        return ", ".join(map(str, value)) if isinstance(value, list) else value

    def to_python(self, value: Any) -> Any:
        written = super().to_python(value) or ""
        return [word.strip() for word in written.split(",") if word.strip()]

    def has_changed(self, initial: Any, data: Any) -> bool:
        return (initial or []) != self.to_python(data)


class BudgetsField(_JsonTextField):
    """Bytes by device, written as ``cpu: 8 GiB``, one device per line."""

    widget = UnfoldAdminTextareaWidget({"rows": 3, "placeholder": "cpu: 8 GiB"})

    def prepare_value(self, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        lines = []
        for device, count in value.items():
            unit, size = ("GiB", 1 << 30) if count >= 1 << 30 else ("MiB", 1 << 20)
            # With all digits, so that they are read back unchanged.
            lines.append(f"{device}: {count / size:.12g} {unit}")
        return "\n".join(lines)

    def to_python(self, value: Any) -> Any:
        budgets = {}
        for line in (super().to_python(value) or "").splitlines():
            if not line.strip():
                continue
            found = _BUDGET.fullmatch(line.strip())
            if found is None:
                raise ValidationError(f"{line.strip()!r}: write a device and its size: cpu: 8 GiB")
            device, number, unit = found.groups()
            budgets[device] = round(float(number) * _UNITS[unit.upper()])
        return budgets

    def has_changed(self, initial: Any, data: Any) -> bool:
        try:
            return (initial or {}) != self.to_python(data)
        except ValidationError:
            return True
