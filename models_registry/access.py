"""Permissions in the admin: three groups, created by each migration.

    Viewers          see the registry, the fleet, downloads, registrations, predictions, the
                     requests and usage of all users, and the audit trail
    Operators        also load, unload, pin, download, roll out and try versions
    Administrators   also edit the registry, the nodes and teams, and create and revoke API keys

Users also need staff status to log in. Only superusers edit users and groups, since this would let
others give themselves any permission. Each migration restores permissions that were removed from
these groups; to allow less, create another group.
"""

from typing import Any, Final, NamedTuple

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
ADD_VERSION: Final = "models_registry.add_modelversion"

_EDITED: Final = (
    *("model", "modelversion", "source", "contextbudget", "price", "fallback", "taskroute"),
    *("roleassignment", "preset", "presetmember"),
)
_VIEWED: Final = (
    *(*_EDITED, "node", "replica", "footprint", "download", "registration", "prediction"),
)


class Level(NamedTuple):
    """A group and the codenames of its permissions, by app."""

    group: str
    codenames: dict[str, frozenset[str]]


def _all(actions: tuple[str, ...], tables: tuple[str, ...]) -> frozenset[str]:
    return frozenset(f"{action}_{table}" for action in actions for table in tables)


_view: Final = {
    "models_registry": _all(("view",), _VIEWED),
    "metrics": frozenset({"view_requestrecord", "view_correction", "view"}),
    "auditlog": frozenset({"view_logentry"}),
}
_operate: Final = _view | {"models_registry": _view["models_registry"] | {OPERATE_CODENAME}}
_administer: Final = _operate | {
    "models_registry": _operate["models_registry"]
    | _all(("add", "change", "delete"), _EDITED)
    | {"change_node"},
    "inference": _all(("view", "add", "change"), ("apikey", "team", "membership"))
    | _all(("delete",), ("team", "membership")),
}
LEVELS: Final = (
    Level(VIEWERS, _view),
    Level(OPERATORS, _operate),
    Level(ADMINISTRATORS, _administer),
)


def grant_levels(
    app_config: AppConfig, using: str = "default", apps: Apps = installed_apps, **_: Any
) -> None:
    """Give the groups their permissions of one app, after its migration.

    ``apps`` has the models of the database at this point, which may lack groups.
    """
    if not any(app_config.label in level.codenames for level in LEVELS):
        return
    if ("auth", "group") not in {
        (m._meta.app_label, m._meta.model_name) for m in apps.get_models()
    }:
        return
    if app_config.label == "models_registry":
        # Permissions need a table; replicas are closest.
        tables = ContentType.objects.db_manager(using)
        Permission.objects.using(using).get_or_create(
            content_type=tables.get_by_natural_key("models_registry", "replica"),
            codename=OPERATE_CODENAME,
            defaults={"name": "Can load, unload, pin, download, roll out and try versions"},
        )
    for level in LEVELS:
        codenames = level.codenames.get(app_config.label, frozenset())
        permissions = Permission.objects.using(using).filter(
            content_type__app_label=app_config.label, codename__in=codenames
        )
        group, _created = Group.objects.using(using).get_or_create(name=level.group)
        group.permissions.add(*permissions)
