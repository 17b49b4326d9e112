"""Models and versions: look up, route, add, roll out."""
