"""Pages of the admin: requests, and reports on their totals."""

from metrics.admin import reports, requests

__all__ = ["reports", "requests"]
