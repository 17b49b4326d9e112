"""The addresses of the embedded servers, as their clients read them."""

from pathlib import Path

import dj_database_url
import psycopg.conninfo
import pytest
import redis

from inference_site.embedded.urls import embedded_urls, socket_directory

HOMES = [Path("/srv/brigade"), Path("/srv/a b%c/é"), Path("/srv") / ("deep/" * 40)]


@pytest.mark.parametrize("home", HOMES)
def test_database_url_names_the_sockets_for_django_and_psycopg(home: Path) -> None:
    database_url, _ = embedded_urls(home)
    parsed = dj_database_url.parse(database_url)
    assert (parsed["NAME"], parsed["USER"], parsed["PORT"]) == ("brigade", "postgres", 5432)
    assert parsed["OPTIONS"]["host"] == str(socket_directory(home))
    words = psycopg.conninfo.conninfo_to_dict(database_url)
    assert words["host"] == str(socket_directory(home))
    assert (words["dbname"], words["user"], words["port"]) == ("brigade", "postgres", "5432")


@pytest.mark.parametrize("home", HOMES)
def test_redis_url_names_the_socket_for_redis(home: Path) -> None:
    _, redis_url = embedded_urls(home)
    path = str(socket_directory(home) / "valkey.sock")
    arguments = redis.ConnectionPool.from_url(redis_url).connection_kwargs
    assert (arguments["path"], arguments["db"]) == (path, 0)


@pytest.mark.parametrize("home", HOMES)
def test_socket_paths_fit_into_the_kernels_limit(home: Path) -> None:
    assert len(str(socket_directory(home) / ".s.PGSQL.5432.lock").encode()) < 104


def test_long_homes_do_not_share_a_directory() -> None:
    long = Path("/srv") / ("deep/" * 40)
    assert socket_directory(long / "a") != socket_directory(long / "b")


def test_asking_for_urls_touches_nothing(tmp_path: Path) -> None:
    embedded_urls(tmp_path / "home")
    assert list(tmp_path.iterdir()) == []
