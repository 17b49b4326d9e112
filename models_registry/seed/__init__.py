"""The models, presets and routes of a new installation."""
