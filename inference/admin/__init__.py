"""Pages of the admin: API keys, teams, and a page to try a version."""

from inference.admin import keys, teams

__all__ = ["keys", "teams"]
