"""Pages of the admin: requests, and reports on their totals."""

from metrics.admin import requests

__all__ = ["requests"]
