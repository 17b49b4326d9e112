"""The process that decides which model versions are in memory, and acts on it."""
