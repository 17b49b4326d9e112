"""Who may do what in the admin: three groups, made with each migration.

    Viewers          see the registry, the fleet, downloads, registrations, predictions, request
                     records and the audit trail
    Operators        see that, and load, unload, pin, download, move the default and canaries, and
                     try prompts
    Administrators   see and do that, and edit the registry and the nodes, and make and revoke keys

A user also needs the mark "staff" to log in. Users and groups themselves are for superusers: who
may edit them could give themselves anything. Permissions that are taken out of one of these groups
come back with the next migration; to allow less, make a group of your own.
"""

from dataclasses import dataclass, field
from typing import Any, Final

from django.apps import AppConfig
from django.apps import apps as installed_apps
from django.apps.registry import Apps
from django.contrib.auth.models import Group, Permission
from django.contrib.contenttypes.models import ContentType

VIEWERS: Final = "Viewers"
OPERATORS: Final = "Operators"
ADMINISTRATORS: Final = "Administrators"

OPERATE_CODENAME: Final = "operate_fleet"
OPERATE: Final = f"models_registry.{OPERATE_CODENAME}"
"""Permission to change what is in memory, what is downloaded, and which version is served."""
ADD_VERSION: Final = "models_registry.add_modelversion"
"""Permission to register files from sources of one's choosing."""

_EDITED: Final = (
    *("model", "modelversion", "source", "contextbudget", "fallback", "taskroute"),
    *("roleassignment", "preset", "presetmember"),
)
_SEEN: Final = (*_EDITED, "node", "replica", "footprint", "download", "registration", "prediction")


def _all(actions: tuple[str, ...], tables: tuple[str, ...]) -> frozenset[str]:
    return frozenset(f"{action}_{table}" for action in actions for table in tables)


@dataclass(frozen=True)
class Level:
    """A group and its permissions: codenames by the label of their app."""

    group: str
    codenames: dict[str, frozenset[str]] = field(default_factory=dict)

    def __or__(self, other: "Level") -> "Level":
        """``other``'s group with what this one may as well."""
        labels = {*self.codenames, *other.codenames}
        none: frozenset[str] = frozenset()
        return Level(
            other.group,
            {
                label: self.codenames.get(label, none) | other.codenames.get(label, none)
                for label in labels
            },
        )


_view = Level(
    VIEWERS,
    {
        "models_registry": _all(("view",), _SEEN),
        "metrics": frozenset({"view_requestrecord"}),
        "auditlog": frozenset({"view_logentry"}),
    },
)
_operate = _view | Level(OPERATORS, {"models_registry": frozenset({OPERATE_CODENAME})})
_administer = _operate | Level(
    ADMINISTRATORS,
    {
        "models_registry": _all(("add", "change", "delete"), _EDITED) | {"change_node"},
        "inference": _all(("view", "add", "change"), ("apikey",)),
    },
)
LEVELS: Final = (_view, _operate, _administer)


def grant_levels(
    app_config: AppConfig, using: str = "default", apps: Apps = installed_apps, **_: Any
) -> None:
    """Give the groups their permissions of one app; called after it was migrated.

    ``apps`` are the models that the database has now: who migrates a single app has no groups yet.
    """
    if not any(app_config.label in level.codenames for level in LEVELS):
        return
    if ("auth", "group") not in {
        (m._meta.app_label, m._meta.model_name) for m in apps.get_models()
    }:
        return
    if app_config.label == "models_registry":
        _make_operate_permission(using)
    for level in LEVELS:
        codenames = level.codenames.get(app_config.label, frozenset())
        permissions = Permission.objects.using(using).filter(
            content_type__app_label=app_config.label, codename__in=codenames
        )
        group, _created = Group.objects.using(using).get_or_create(name=level.group)
        group.permissions.add(*permissions)


def _make_operate_permission(using: str) -> None:
    """It belongs to no single table; replicas are what it is mostly about."""
    table = ContentType.objects.db_manager(using).get_by_natural_key("models_registry", "replica")
    Permission.objects.using(using).get_or_create(
        content_type=table,
        codename=OPERATE_CODENAME,
        defaults={"name": "Can load, unload, pin, download, roll out and try versions"},
    )
