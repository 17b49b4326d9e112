"""django-q's cluster, hardened: the processes that start hosts and replace dead ones."""
