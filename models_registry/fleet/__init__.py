"""Nodes and replicas: rows and measurements as the residency plan needs them."""
