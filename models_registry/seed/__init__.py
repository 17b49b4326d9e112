"""The models that a new installation knows."""
