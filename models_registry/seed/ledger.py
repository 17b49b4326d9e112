"""Brings seeded rows up to date without touching what somebody changed or deleted."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, cast

from django.db import models

from models_registry.models import SeededRow

# Where nothing is written, nobody has said it yet. In all other fields blank or the default is a
# choice of its own, such as "read it from the file".
_UNTOLD: Final = frozenset(
    {
        *("name", "title", "description", "licence", "languages", "capabilities", "roles"),
        *("hardware", "documented_memory_bytes"),
    }
)


@dataclass
class SeedReport:
    """What a seeding did, in names such as ``preset D3`` or ``preset D3: title``."""

    added: list[str] = field(default_factory=list)
    updated: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)


def may_change(current: Any, last: Any, wanted: Any) -> bool:
    """Whether a value in the registry gives way to the seed's.

    Args:
        current: what the registry has.
        last: what the seed last had.
        wanted: what the seed has now.
    """
    return current != wanted and current == last


class SeedLedger:
    """One seeding: it compares each row with what was last seeded and keeps the account."""

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
        """Add a row, or bring its fields up to date.

        Args:
            table: of the registry.
            name: of the row in the seed, unique in its table.
            identity: finds a row that somebody entered before the seed had it.
            fields: its other values.
            adopts: whether such a row is taken over where it says nothing; else it stays as it is.

        Returns:
            The row, or None where it was deleted and is not restored.
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
        """Whether a row was seeded before, be it deleted since."""
        return _full_name(table, name) in self._seeded

    def last_value(self, name: str) -> Any:
        """What was remembered under a name that is no row's."""
        seeded = self._seeded.get(name)
        return None if seeded is None else seeded.values["value"]

    def remember_value(self, name: str, object_id: int, value: Any) -> None:
        """Remember a value that is in no field."""
        self._remember(name, object_id, {"value": value})

    def _update(
        self,
        name: str,
        row: models.Model,
        fields: Mapping[str, Any],
        last: Mapping[str, Any] | None,
    ) -> None:
        """Bring fields up to date; ``last`` is None for a row that somebody else entered."""
        changed = []
        for key, wanted in fields.items():
            column = cast("models.Field[Any, Any]", row._meta.get_field(key))
            current = column.value_from_object(row)  # of a relation the key: no query
            if last is None:
                gives_way = key in _UNTOLD and current in column.empty_values and bool(wanted)
            else:
                # What the seed did not have until now was not edited while it has its default.
                before = last.get(key, column.get_default())
                gives_way = may_change(current, before, _plain(wanted))
            if gives_way:
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
    """A field's value as JSON can keep it."""
    return value.pk if isinstance(value, models.Model) else value
