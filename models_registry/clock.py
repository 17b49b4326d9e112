"""The one clock of all machines: that of the database."""

from datetime import datetime

from django.db import connection


def database_now() -> datetime:
    """The time, for moments that are compared with others that another machine wrote."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT statement_timestamp()")
        (now,) = cursor.fetchone()
    found: datetime = now
    return found
