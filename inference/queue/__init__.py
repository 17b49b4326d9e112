"""The queue of each version, the claims of each host, and what happens when a host dies."""
