"""Form fields for values that are JSON in the database and words to people."""

import re
from typing import Any, Final

from django import forms
from django.core.exceptions import ValidationError
from unfold.widgets import UnfoldAdminTextareaWidget, UnfoldAdminTextInputWidget

_BUDGET: Final = re.compile(r"(\S+?)\s*:\s*(\d+(?:\.\d+)?)\s*([GM])iB", re.IGNORECASE)
_UNITS: Final = {"G": 1 << 30, "M": 1 << 20}


class WordsField(forms.CharField):
    """A list of words, written with commas between them."""

    widget = UnfoldAdminTextInputWidget

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{"required": False, **kwargs})

    def prepare_value(self, value: Any) -> Any:
        """``["a", "b"]`` as ``a, b``."""
        return ", ".join(map(str, value)) if isinstance(value, list) else value

    def to_python(self, value: Any) -> Any:
        """``a, b`` as ``["a", "b"]``."""
        written = super().to_python(value) or ""
        return [word.strip() for word in written.split(",") if word.strip()]

    def validate(self, value: Any) -> None:
        """Nothing: the model's own checks follow."""

    def run_validators(self, value: Any) -> None:
        """Nothing: the model's own checks follow."""

    def has_changed(self, initial: Any, data: Any) -> bool:
        """Whether other words were written."""
        return (initial or []) != self.to_python(data)


class BudgetsField(forms.CharField):
    """Bytes by device, written as ``cpu: 8 GiB``, a device on each line."""

    widget = UnfoldAdminTextareaWidget({"rows": 3, "placeholder": "cpu: 8 GiB"})

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{"required": False, **kwargs})

    def prepare_value(self, value: Any) -> Any:
        """``{"cpu": 8589934592}`` as ``cpu: 8 GiB``."""
        if not isinstance(value, dict):
            return value
        return "\n".join(f"{device}: {_written(count)}" for device, count in value.items())

    def to_python(self, value: Any) -> Any:
        """``cpu: 8 GiB`` as ``{"cpu": 8589934592}``. Raises ``ValidationError``."""
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

    def validate(self, value: Any) -> None:
        """Nothing: the model's own checks follow."""

    def run_validators(self, value: Any) -> None:
        """Nothing: the model's own checks follow."""

    def has_changed(self, initial: Any, data: Any) -> bool:
        """Whether other budgets were written."""
        try:
            return (initial or {}) != self.to_python(data)
        except ValidationError:
            return True


def _written(count: int) -> str:
    """A short way to write a number of bytes that is read back as it was."""
    unit, size = ("GiB", 1 << 30) if count >= 1 << 30 else ("MiB", 1 << 20)
    return f"{count / size:.12g} {unit}"
