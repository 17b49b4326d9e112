"""Load generator for OpenAI-compatible servers; free of Django, driven by ``manage.py bench``."""
