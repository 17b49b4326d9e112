from django.contrib import admin
from django.urls import include, path
from django.views.generic import RedirectView

from inference.admin.try_page import try_page
from inference_site.health import live, ready

urlpatterns = [
    path("", RedirectView.as_view(url="/admin/")),
    path("", include("models_registry.admin.urls")),
    path("", include("metrics.admin.pages")),
    path("admin/try/<str:version_key>/", try_page, name="try_version"),
    path("admin/", admin.site.urls),
    path("health", live),
    path("health/ready", ready),
    path("", include("inference.api.urls")),
]
handler404 = "inference.api.error_renderer.not_found"
handler500 = "inference.api.error_renderer.server_error"
