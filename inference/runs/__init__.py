"""A run: from an order to frames, with its record at the end."""
