"""The form of one row, on its own page or in line on another's."""

from typing import Any

from django import forms


class RowForm(forms.ModelForm):
    """Saves the fields that were changed on the page, and leaves the others as they are by then.

    While a page is open downloads, hosts and other people change its rows. What a field had when
    the page was opened goes along with it, hidden, to know what its reader changed.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for field in self.fields.values():
            field.show_hidden_initial = True

    def add_initial_prefix(self, field_name: str) -> str:
        """The name of the hidden field.

        Not Django's: it ends in the field's own name, and where rows are sorted by dragging,
        unfold numbers every input whose name ends in that of the ordering field.
        """
        return f"{self.add_prefix(field_name)}-opened"

    def save(self, commit: bool = True) -> Any:
        """The row; with ``commit`` what was changed of it is in the database, all of a new one."""
        row = super().save(commit=False)
        if commit:
            row.save(update_fields=None if row._state.adding else self.changed_data)
        return row
