"""A service under traffic for more models than fit: ``manage.py demo_swap``."""
