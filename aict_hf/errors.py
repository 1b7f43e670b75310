"""What a user gave and this package cannot use."""


class InputError(ValueError):
    """Bad input: says what was expected, what came and what to do. The command line prints it as its one line."""


__all__ = ["InputError"]
