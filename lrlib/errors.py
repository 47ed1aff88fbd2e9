"""What all errors have in common that are a sentence for a person, not a fault of this code."""


class LrlibError(Exception):
    """Something that a person can put right; its text says what, in one sentence."""

    status = 1  # what the command line then ends with; 2 where what was typed is at fault
