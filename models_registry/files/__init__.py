"""Model files on this machine: download, inspect and check them."""
