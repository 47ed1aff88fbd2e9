"""What carries an epoch out: one file a backend. lrlib.training.registry has them by name."""

from lrlib.errors import LrlibError


class BackendError(LrlibError):
    """A backend that is not installed, or whose processes failed."""
