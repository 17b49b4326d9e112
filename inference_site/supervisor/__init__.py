"""Starts, restarts and stops every process of the service on one machine."""
