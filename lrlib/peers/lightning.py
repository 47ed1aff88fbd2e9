"""Lightning's Tuner and LearningRateFinder with lrlib's sweep behind them; Lightning is imported when one is asked for.

Change `from lightning.pytorch.tuner import Tuner` into `from lrlib.peers.lightning import Tuner`, and
`from lightning.pytorch.callbacks import LearningRateFinder` likewise. lrlib.peers.lightning_finder says what differs.
"""

from typing import TYPE_CHECKING, Any

from lrlib.peers.lazy import from_tool

if TYPE_CHECKING:
    from lrlib.peers.lightning_finder import LearningRateFinder as LearningRateFinder
    from lrlib.peers.lightning_finder import Tuner as Tuner

__all__ = ["LearningRateFinder", "Tuner"]


def __getattr__(name: str) -> Any:
    names = ("LearningRateFinder", "Tuner")
    return from_tool("lrlib.peers.lightning_finder", name, names, tool="Lightning", package="lightning")
