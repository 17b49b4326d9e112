"""A service of its own under traffic for more models than fit: ``manage.py demo_swap``."""
