"""Pages of the admin: requests, and reports on their totals."""

from metrics.admin import corrections, reports, requests

__all__ = ["corrections", "reports", "requests"]
