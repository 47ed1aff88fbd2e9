"""nbformat, for the rest of the report, in an eighth of the time.

The library that nbformat validates notebooks with builds, when it is imported, a grammar of internet addresses, of
which notebooks have no use: a second of each process that reads one. It does without where that module is missing.
"""

import sys

_GRAMMAR = "rfc3987_syntax"
_is_hidden = _GRAMMAR not in sys.modules
if _is_hidden:
    sys.modules[_GRAMMAR] = None  # type: ignore[assignment]
try:
    import nbformat
finally:
    if _is_hidden:
        del sys.modules[_GRAMMAR]

__all__ = ["nbformat"]
