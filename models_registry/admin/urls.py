"""URLs of the overview."""

from django.urls import path

from models_registry.admin.overview import downloads_part, overview_page

urlpatterns = [
    path("admin/overview/", overview_page, name="admin_overview"),
    path("admin/overview/downloads/", downloads_part, name="admin_overview_downloads"),
]
