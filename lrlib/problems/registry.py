"""The problems by name, each with the module that makes it, which is imported when its problem is asked for."""

import difflib
import importlib
from functools import lru_cache

from lrlib.problems.data import VALIDATION
from lrlib.problems.problem import Problem

DEFAULT = "lenet5_mnist"
_LENET5 = ("lenet5_mnist", "lenet5_fashion", "lenet5_sample")
PLACES = {
    **{f"{name}{ending}": "lrlib.problems.lenet" for name in _LENET5 for ending in ("", VALIDATION)},
    "caffe_lenet_mnist": "lrlib.problems.caffe_lenet",
    "quadratic_deep": "lrlib.problems.quadratic",
    "fmnist_2c2d": "lrlib.problems.cnn_2c2d",
    "mnist_vae": "lrlib.problems.vae",
    "fmnist_vae": "lrlib.problems.vae",
    "fmnist_resnet": "lrlib.problems.resnet",
    "char_rnn": "lrlib.problems.char_rnn",
    "char_gpt": "lrlib.problems.char_gpt",
    "char_gpt_finetune": "lrlib.problems.char_gpt",
    "tabular": "lrlib.problems.tabular",
}


@lru_cache
def load_problem(name: str) -> Problem:
    """A problem by its name. Raises ValueError for an unknown one."""
    if name not in PLACES:
        nearest = difflib.get_close_matches(str(name), PLACES, n=1, cutoff=0)[0]
        raise ValueError(f"problem must be one of {', '.join(PLACES)}, got {name!r}; the nearest is {nearest!r}")
    return importlib.import_module(PLACES[name]).make_problem(name)
