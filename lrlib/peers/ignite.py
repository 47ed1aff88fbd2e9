"""ignite's FastaiLRFinder with lrlib's restoration and reading; ignite is imported when it is asked for.

Change `from ignite.handlers import FastaiLRFinder` into `from lrlib.peers.ignite import FastaiLRFinder`.
"""

from typing import TYPE_CHECKING, Any

from lrlib.peers.lazy import from_tool

if TYPE_CHECKING:
    from lrlib.peers.ignite_finder import FastaiLRFinder as FastaiLRFinder

__all__ = ["FastaiLRFinder"]


def __getattr__(name: str) -> Any:
    return from_tool("lrlib.peers.ignite_finder", name, ("FastaiLRFinder",), tool="ignite", package="pytorch-ignite")
