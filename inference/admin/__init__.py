"""Pages of the admin: API keys, teams, runs of several models, and a page to try a version."""

from inference.admin import keys, runs, teams

__all__ = ["keys", "runs", "teams"]
