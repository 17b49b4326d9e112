"""Read a request: parse it, check it, apply defaults.

All functions raise ``InvalidRequestError`` for what the client must change; ``param`` arguments
name the field at fault.
"""
