"""Model files on this machine: fetch, check, inspect."""
