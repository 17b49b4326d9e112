"""Pages of the admin: API keys, and a page to try a version."""

from inference.admin import keys

__all__ = ["keys"]
