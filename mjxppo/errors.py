"""The one exception that the command line turns into a single line and exit code 2."""


class UserError(ValueError):
    """Something the user can put right: a bad option, file, model or environment.

    Its message is one line that names the field or file and says what would be right.
    """
