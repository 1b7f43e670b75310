"""What a user gave and this package cannot use."""


class InputError(ValueError):
    """Bad input: says what was expected, what came and what to do. The command line prints it as its one line."""


def one_line(error: BaseException) -> str:
    """What an exception says, without line breaks: libraries wrap theirs for the terminal."""
    return " ".join(str(error).split())


__all__ = ["InputError", "one_line"]
