"""Writes seed rows without touching what people changed or deleted."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, cast

from django.db import models

from models_registry.models import SeededRow

# Fields that are filled if a person's row leaves them empty. In all other fields an empty value is
# a choice, such as "read it from the file".
_FILLED_IF_EMPTY: Final = frozenset(
    {
        *("name", "title", "description", "licence", "languages", "capabilities", "roles"),
        *("hardware", "documented_memory_bytes"),
    }
)


@dataclass
class SeedReport:
    """Names of rows and fields, such as ``preset D3`` or ``preset D3: title``."""

    added: list[str] = field(default_factory=list)
    updated: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)


def may_change(current: Any, last: Any, wanted: Any) -> bool:
    """Whether the ``current`` value differs from the ``wanted`` one and is as ``last`` seeded."""
    return current != wanted and current == last


class SeedWriter:
    """One seeding: compares each row with the values of the last seeding and reports changes."""

    def __init__(self, restore: bool = False) -> None:
        self.report = SeedReport()
        self._restore = restore
        self._seeded = {row.key: row for row in SeededRow.objects.all()}

    def put(
        self,
        table: type[models.Model],
        name: str,
        identity: Mapping[str, Any],
        fields: Mapping[str, Any],
        *,
        adopts: bool = True,
    ) -> Any:
        """Add a row, or update its fields.

        Args:
            table: of the registry.
            name: of the row in the seed, unique in its table.
            identity: finds a row that a person entered before the seed had it.
            fields: its other values.
            adopts: whether empty fields of such a row are filled.

        Returns:
            The row, or None if it was deleted and is not restored.
        """
        name = _full_name(table, name)
        seeded = self._seeded.get(name)
        row = None if seeded is None else table._default_manager.filter(pk=seeded.object_id).first()
        if seeded is not None and row is None and not self._restore:
            self.report.deleted.append(name)
            return None
        last = None if seeded is None else seeded.values
        if row is None:
            row = table._default_manager.filter(**identity).first()
            if row is not None and not adopts:
                self.report.kept.append(name)
                return row
            if row is None:
                row = table._default_manager.create(**identity, **fields)
                self.report.added.append(name)
        self._update(name, row, fields, last)
        self._remember(name, row.pk, {key: _plain(value) for key, value in fields.items()})
        return row

    def knows(self, table: type[models.Model], name: str) -> bool:
        """Whether a row was seeded before, even if it was deleted since."""
        return _full_name(table, name) in self._seeded

    def last_value(self, name: str) -> Any:
        """The value of the last ``remember_value``."""
        seeded = self._seeded.get(name)
        return None if seeded is None else seeded.values["value"]

    def remember_value(self, name: str, object_id: int, value: Any) -> None:
        self._remember(name, object_id, {"value": value})

    def _update(
        self,
        name: str,
        row: models.Model,
        fields: Mapping[str, Any],
        last: Mapping[str, Any] | None,
    ) -> None:
        """Update fields; ``last`` is None for a row that a person entered."""
        changed = []
        for key, wanted in fields.items():
            column = cast("models.Field[Any, Any]", row._meta.get_field(key))
            current = column.value_from_object(row)  # the key of a relation, without a query
            if last is None:
                changes = (
                    key in _FILLED_IF_EMPTY and current in column.empty_values and bool(wanted)
                )
            else:
                # A field that is new in the seed is unedited while it has its default.
                before = last.get(key, column.get_default())
                changes = may_change(current, before, _plain(wanted))
            if changes:
                setattr(row, key, wanted)
                changed.append(key)
            elif current != _plain(wanted):
                self.report.kept.append(f"{name}: {key}")
        if changed:
            row.save(update_fields=changed)
            self.report.updated.append(f"{name}: {', '.join(changed)}")

    def _remember(self, name: str, object_id: int, values: dict[str, Any]) -> None:
        seeded = self._seeded.get(name)
        if seeded is None:
            seeded = self._seeded[name] = SeededRow(key=name)
        elif (seeded.object_id, seeded.values) == (object_id, values):
            return
        seeded.object_id, seeded.values = object_id, values
        seeded.save()


def _full_name(table: type[models.Model], name: str) -> str:
    return f"{table._meta.verbose_name} {name}"


def _plain(value: Any) -> Any:
    return value.pk if isinstance(value, models.Model) else value
