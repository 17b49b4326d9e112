from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import include, path
from django.views.generic import RedirectView

from inference.admin.try_page import try_page
from inference_site.health import live, ready
from models_registry.admin.overview import overview_page


def home(request: HttpRequest) -> HttpResponse:
    """The overview, or the usage for staff who may not see the fleet."""
    try:
        return overview_page(request)
    except PermissionDenied:
        return redirect("usage_page")


urlpatterns = [
    path("", RedirectView.as_view(url="/admin/")),
    path("", include("models_registry.admin.urls")),
    path("", include("metrics.admin.pages")),
    path("admin/try/<str:version_key>/", try_page, name="try_version"),
    path("admin/", admin.site.admin_view(home)),
    path("admin/", admin.site.urls),
    path("health", live),
    path("health/ready", ready),
    path("", include("inference.api.urls")),
]
handler404 = "inference.api.error_renderer.not_found"
handler500 = "inference.api.error_renderer.server_error"
