"""`lrlib suggest FILE`: suggest a learning rate from saved range tests."""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from lrlib.finder.result import in_words
from lrlib.peers.reading import read, together
from lrlib.peers.tables import is_tensorboard

FILES = (
    "a CSV file with a column of learning rates and one of losses, as Lightning, Keras and W&B write it; two CSV files "
    "of TensorBoard, one for each; or a file that save() wrote. Several files are sweeps of one model"
)
MEANS = {
    "--smooth-f": (float, "running means of torch-lr-finder, MONAI or ignite with this smooth_f (default 0.05)"),
    "--beta": (float, "running means of fastai or Lightning with this beta (theirs is 0.98)"),
    "--first-step": (int, "such means; step at which their bias correction starts: 1 for fastai, 2 for Lightning"),
    "--epoch-steps": (int, "Keras's logs['loss'], a mean that restarts every N steps"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command. Returns the exit status: 0, 1 if a file or a package is missing, 2 for bad input."""
    parser = argparse.ArgumentParser(prog="lrlib suggest", description="Suggest a learning rate from range tests.")
    parser.add_argument("files", nargs="+", metavar="FILE", help=FILES)
    parser.add_argument("--columns", nargs=2, metavar=("LR", "LOSS"), help="the two columns; found by name by default")
    for name, (kind, text) in MEANS.items():
        parser.add_argument(name, type=kind, metavar="N" if kind is int else "F", help=f"the losses are {text}")
    parser.add_argument("--plot", metavar="PICTURE", help="also draw the curves there (.png, .pdf or .svg)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")
    options = vars(parser.parse_args(arguments))
    files, plot, as_json = (options.pop(name) for name in ("files", "plot", "json"))
    try:
        sources = [tuple(files)] if len(files) == 2 and all(map(is_tensorboard, map(Path, files))) else files
        each = [read(source, **options) for source in sources]
        result = together(each)
        if plot:
            longest = max((sweep.lr for sweep in result.sweeps), key=len)
            if not all(np.allclose(sweep.lr, longest[: len(sweep.lr)], rtol=1e-6, atol=0) for sweep in result.sweeps):
                raise ValueError("sweeps in one plot must share their learning rates; draw each file by itself")
            result.plot(path=plot)
    except OSError as err:
        print(f"lrlib: {err.filename or 'a file'}: {(err.strerror or str(err)).lower()}", file=sys.stderr)
        return 1
    except (ModuleNotFoundError, ValueError) as err:
        print(f"lrlib: {err}", file=sys.stderr)
        return 2 if isinstance(err, ValueError) else 1
    parts = [(source, part.sweeps[0].stop_reason, part.suggest()) for source, part in zip(sources, each, strict=True)]
    if as_json:
        found = [{"file": source, "history": history, **asdict(s)} for source, history, s in parts]
        print(json.dumps({**asdict(result.suggest()), "files": found}, indent=2))
    else:
        print(in_words(result.suggest()))
        for source, history, suggestion in parts:
            print(f"{source}: {suggestion.lr:.3g}, {history}")
    return 0
