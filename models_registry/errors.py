"""The errors of the registry that people are shown."""


class RegistryError(Exception):
    """The registry cannot do what was asked; the message says why and what to do."""


class FetchStoppedError(Exception):
    """Somebody at a terminal pressed Ctrl-C while a file was fetched."""


class LabelError(RegistryError):
    """A version cannot be called that."""


class NeverFitsError(RegistryError):
    """A version is too large for a machine, even for an empty one."""
