"""Vectors become ``halfvec`` where Postgres has pgvector and lets its user create the extension.

Without it they stay float16 values in a ``bytea``, which NumPy searches. Migrate back to 0001 and
forward again after the extension was installed. Both ways empty the table: it is a cache.
"""

import logging

from django.db import DatabaseError, migrations, transaction

logger = logging.getLogger(__name__)

EXTENSION = "vector"
# There is no index on the vectors, so embedders of any length can follow each other.
COLUMN = """
    DELETE FROM caching_semanticentry;
    ALTER TABLE caching_semanticvector DROP COLUMN v, ADD COLUMN v {} NOT NULL;
    ALTER TABLE caching_semanticvector ALTER COLUMN v SET STORAGE PLAIN;
"""


def use_pgvector(apps, schema_editor):
    try:
        with transaction.atomic(), schema_editor.connection.cursor() as cursor:
            cursor.execute(f"CREATE EXTENSION IF NOT EXISTS {EXTENSION}")
            cursor.execute(COLUMN.format("halfvec"))
    except DatabaseError as error:
        logger.warning("Vectors are searched with NumPy: %s", str(error).strip())


def use_numpy(apps, schema_editor):
    with schema_editor.connection.cursor() as cursor:
        cursor.execute(COLUMN.format("bytea"))


class Migration(migrations.Migration):
    dependencies = [("caching", "0001_initial")]

    operations = [migrations.RunPython(use_pgvector, use_numpy)]
