"""Continuous batching over a language model: no Django, no I/O, no locks.

Each step fills one batch: ``schedule → decode → sample → postprocess``.
"""
