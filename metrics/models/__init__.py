"""Rows of the ledger: requests, their totals by time, corrections, reports that were sent."""

from metrics.models.fleet import FleetSample
from metrics.models.reports import ReportDelivery, ReportSubscription
from metrics.models.requests import DimensionName, RequestRecord, RequestStep, RollMark
from metrics.models.totals import (
    Correction,
    RefusedSlot,
    ShapeDay,
    ShapeSlot,
    UsageDay,
    UsageSlot,
)

__all__ = [
    "Correction",
    "DimensionName",
    "FleetSample",
    "RefusedSlot",
    "ReportDelivery",
    "ReportSubscription",
    "RequestRecord",
    "RequestStep",
    "RollMark",
    "ShapeDay",
    "ShapeSlot",
    "UsageDay",
    "UsageSlot",
]
