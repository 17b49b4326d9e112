"""Addresses of the admin that name no row get a page."""

import pytest
from django.test import Client


@pytest.mark.parametrize(
    "path",
    ["modelversion/9999/change/", "download/9940a3d9/change/", "download/9940a3d9/history/"],
)
def test_unknown_row_is_a_page_with_404_or_a_way_back(admin_client: Client, path: str) -> None:
    response = admin_client.get(f"/admin/models_registry/{path}", follow=True)
    assert response["Content-Type"].startswith("text/html")
    assert response.status_code == 404 or response.redirect_chain


def test_unknown_address_of_the_admin_is_a_page(admin_client: Client) -> None:
    response = admin_client.get("/admin/models_registry/nothing/")
    assert response.status_code == 404
    assert response["Content-Type"].startswith("text/html")
