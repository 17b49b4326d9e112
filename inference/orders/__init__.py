"""Read a request: parse it, check it, apply defaults."""
