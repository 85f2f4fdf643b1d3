"""Single-letter options as toybox reads them: together or apart, values attached or next."""


class UsageError(Exception):
    """An option that the tool does not know; the words are toybox's."""


def read_options(args: list[str], flags: str, valued: str = "") -> tuple[dict[str, str], list[str]]:
    """Options and what remains. A flag's value is "1"; `-5` is an option only where the tool says so (`flags="0-9"`).

    Raises UsageError for an unknown option.
    """
    options: dict[str, str] = {}
    rest = list(args)
    operands: list[str] = []
    while rest:
        argument = rest.pop(0)
        if argument == "--":
            operands += rest
            break
        if len(argument) < 2 or argument[0] != "-":
            operands.append(argument)
            continue
        letters = argument[1:]
        while letters:
            letter, letters = letters[0], letters[1:]
            if letter in valued:
                if not letters and not rest:
                    raise UsageError(f"Missing argument to -{letter}")
                options[letter] = letters or rest.pop(0)
                break
            if letter not in flags:
                raise UsageError(f"Unknown option '{letter}'")
            options[letter] = "1"
    return options, operands
