#!/usr/bin/env python
"""Django's command line for the project."""

import os
import sys


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "inference_site.settings")
    from django.core.management import execute_from_command_line
    from django.db import OperationalError
    from redis import RedisError

    try:
        execute_from_command_line(sys.argv)
    except (OperationalError, RedisError) as error:
        text = " ".join(str(error).split())
        sys.exit(f"Postgres or Redis does not answer: is the service up? {text}")


if __name__ == "__main__":
    main()
