"""The process that is one loaded copy of a model version."""
