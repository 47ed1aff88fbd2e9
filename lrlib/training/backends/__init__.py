"""What carries an epoch out: one file a backend. lrlib.training.registry has them by name."""


class BackendError(Exception):
    """A backend that is not installed, or whose processes failed."""
