"""The admin's name, its sidebar, and the permission for each entry."""

from typing import Any

from django.http import HttpRequest
from django.templatetags.static import static
from django.urls import reverse_lazy


def _entry(title: str, icon: str, page: str, permission: str = "") -> dict[str, Any]:
    def is_permitted(request: HttpRequest) -> bool:
        return not permission or bool(request.user.has_perm(permission))

    return {"title": title, "icon": icon, "link": reverse_lazy(page), "permission": is_permitted}


def _rows(title: str, icon: str, app: str, table: str) -> dict[str, Any]:
    return _entry(title, icon, f"admin:{app}_{table}_changelist", f"{app}.view_{table}")


def _registry(title: str, icon: str, table: str) -> dict[str, Any]:
    return _rows(title, icon, "models_registry", table)


def _section(title: str, *items: dict[str, Any], separator: bool = True) -> dict[str, Any]:
    return {"title": title, "separator": separator, "items": items}


_NAVIGATION = [
    _section(
        "Fleet",
        _entry("Overview", "monitoring", "admin:index", "models_registry.view_replica"),
        _registry("Replicas", "memory", "replica"),
        _registry("Nodes", "dns", "node"),
        _registry("Downloads", "download", "download"),
        _registry("Registrations", "link", "registration"),
        separator=False,
    ),
    _section(
        "Models",
        _registry("Models", "deployed_code", "model"),
        _registry("Versions", "layers", "modelversion"),
        _registry("Presets", "tune", "preset"),
        _registry("Task routes", "alt_route", "taskroute"),
        _registry("Role assignments", "theater_comedy", "roleassignment"),
    ),
    _section(
        "Reports",
        _entry("Usage", "bar_chart", "usage_page"),
        _entry("Latency", "speed", "latency_page"),
        _entry("Cost", "payments", "cost_page"),
        _entry("Caches", "cached", "caches_page"),
        _entry("Fleet over time", "timeline", "fleet_page", "metrics.view"),
        _rows("Reports by e-mail", "mail", "metrics", "reportsubscription"),
    ),
    _section(
        "Records",
        _entry("Requests", "receipt_long", "admin:metrics_requestrecord_changelist"),
        _rows("Runs of several models", "diversity_2", "inference", "orchestrationrun"),
        _rows("Corrections of costs", "price_change", "metrics", "correction"),
        _rows("Semantic cache", "cached", "caching", "semanticentry"),
        _rows("Hits and comparisons", "compare", "caching", "cacheverdict"),
        _registry("Predictions", "online_prediction", "prediction"),
        _rows("Audit trail", "history", "auditlog", "logentry"),
    ),
    _section(
        "Access",
        _rows("API keys", "key", "inference", "apikey"),
        _rows("Teams", "diversity_3", "inference", "team"),
        _rows("Users", "person", "auth", "user"),
        _rows("Groups", "group", "auth", "group"),
    ),
]

UNFOLD = {
    "SITE_TITLE": "Brigade",
    "SITE_HEADER": "Brigade",
    "SITE_SYMBOL": "skillet",
    "SITE_FAVICONS": [
        {
            "rel": "icon",
            "type": "image/svg+xml",
            "href": lambda _: static("inference_site/favicon.svg"),
        }
    ],
    "STYLES": [lambda _: static("models_registry/admin.css")],
    "SIDEBAR": {"show_search": False, "navigation": _NAVIGATION},
}
