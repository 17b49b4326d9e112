"""Pages of the admin: requests, and reports on their totals."""

from metrics.admin import records, reports

__all__ = ["records", "reports"]
