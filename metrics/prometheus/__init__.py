"""Metrics for Prometheus: their names, how requests change them, and their text form."""
