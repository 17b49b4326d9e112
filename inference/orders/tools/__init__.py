"""Tool calling: which calls a request allows, and how models write them."""
