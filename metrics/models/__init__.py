"""Rows of the ledger: requests, their totals by time, corrections, reports that were sent."""

# ruff: noqa: F401
from metrics.models.reports import ReportDelivery, ReportSubscription
from metrics.models.requests import DimensionName, RequestRecord, RequestStep, RollMark
from metrics.models.totals import (
    Correction,
    FleetSample,
    RefusedSlot,
    ShapeDay,
    ShapeHour,
    ShapeSlot,
    UsageDay,
    UsageSlot,
)
