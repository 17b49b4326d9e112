"""Read a request: parse it, check it, apply defaults.

Functions raise ``InvalidRequestError``; ``param`` arguments name the field at fault.
"""
