"""Runs every process of the service on one machine: starts, watches, restarts and stops them."""
