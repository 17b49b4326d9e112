"""Modes in which several models answer as one: all decisions, without input or output."""
