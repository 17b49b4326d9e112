"""placeholder until merged"""


def keep(now): ...
