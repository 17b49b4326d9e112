"""Turn a request into an order: parse it, check it, apply defaults.

Functions raise ``InvalidRequestError``; ``param`` arguments name the field at fault.
"""
