"""Runs of several models: conducted by a web process, kept in Postgres, read as other runs are."""
