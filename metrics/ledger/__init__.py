"""Totals of the records: computed from rows, kept, and compared with other counts."""
