"""The clock of the database, which all machines share."""

from datetime import datetime

from django.db import connection


def database_now() -> datetime:
    """The time, for comparison with times that other machines wrote."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT statement_timestamp()")
        (now,) = cursor.fetchone()
    found: datetime = now
    return found
