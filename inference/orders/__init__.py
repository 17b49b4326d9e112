"""Requests read, checked and given their defaults: what is to be generated."""
