"""Compares modes with single answers on items whose answers can be checked."""
