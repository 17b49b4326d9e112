"""Errors of the registry with messages for people."""


class RegistryError(Exception):
    """The registry cannot do what was asked; the message says why and what to do."""


class FetchStoppedError(Exception):
    """Ctrl-C was pressed while a file was downloaded."""


class LabelError(RegistryError):
    """A version label is invalid or taken."""


class NeverFitsError(RegistryError):
    """A version is too large for a node, even for an empty one."""
