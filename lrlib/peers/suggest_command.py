"""`lrlib suggest FILE.csv`: the suggestion of range tests that lie in files, in words, as JSON or as a picture."""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict

import numpy as np

from lrlib.finder.extras import need
from lrlib.finder.result import RangeTestResult
from lrlib.peers.reading import read, together


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes to a parser."""
    parser.add_argument(
        "files",
        nargs="+",
        metavar="FILE",
        help="a CSV file with columns lr and loss, or one that save() wrote; several are sweeps of one model",
    )
    parser.add_argument("--plot", metavar="FILE.png", help="also draw the curves there (.png, .pdf or .svg)")
    parser.add_argument("--json", action="store_true", help="print JSON in place of words")
    parser.add_argument(
        "--smooth-f",
        type=float,
        metavar="F",
        help="the losses are the running mean of torch-lr-finder, MONAI or ignite, with this smooth_f (theirs is 0.05)",
    )
    parser.add_argument(
        "--beta", type=float, metavar="B", help="they are that of fastai or Lightning, with this beta (theirs is 0.98)"
    )
    parser.add_argument(
        "--first-step", type=int, metavar="N", help="with --beta: the exponent at the first loss, 2 for Lightning"
    )


def run(options: argparse.Namespace) -> int:
    """What the command does. Returns the exit status: 0, 1 for what cannot be read or drawn, 2 for bad input."""
    try:
        each = [
            read(file, smooth_f=options.smooth_f, beta=options.beta, first_step=options.first_step)
            for file in options.files
        ]
        result = together(each)
        if options.plot:
            _draw(result, options.plot)
    except OSError as err:
        print(f"lrlib: {err.filename or 'a file'} cannot be read or written ({err.strerror or err})", file=sys.stderr)
        return 1
    except ModuleNotFoundError as err:
        print(f"lrlib: {err}", file=sys.stderr)
        return 1
    except ValueError as err:
        print(f"lrlib: {err}", file=sys.stderr)
        return 2
    if options.json:
        files = [{"file": file, **asdict(part.suggest())} for file, part in zip(options.files, each, strict=True)]
        print(json.dumps({**asdict(result.suggest()), "files": files}, indent=2))
    else:
        print(_in_words(result, options.files, each))
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command by itself."""
    about = "the suggestion of range tests that lie in files, in words, as JSON or as a picture."
    parser = argparse.ArgumentParser(prog="lrlib suggest", description=about)
    add_arguments(parser)
    return run(parser.parse_args(arguments))


def _in_words(result: RangeTestResult, files: Sequence[str], each: Sequence[RangeTestResult]) -> str:
    suggestion = result.suggest()
    spread = "" if suggestion.spread_decades is None else f"; spread {suggestion.spread_decades:.2f} decades"
    lines = [
        f"suggested lr: {suggestion.lr:.3g}{spread}",
        f"for a cycle: from {suggestion.lower:.3g} to {suggestion.upper:.3g}",
        f"{'reliable' if suggestion.reliable else 'NOT RELIABLE'}: {suggestion.reason}",
    ]
    if len(files) > 1:
        lines += [f"{file}: {part.suggest().lr:.3g}" for file, part in zip(files, each, strict=True)]
    return "\n".join(lines)


def _draw(result: RangeTestResult, path: str) -> None:
    longest = max((sweep.lr for sweep in result.sweeps), key=len)
    if not all(np.allclose(sweep.lr, longest[: len(sweep.lr)], rtol=1e-6, atol=0) for sweep in result.sweeps):
        raise ValueError("sweeps must be over the same rates to be drawn in one plot, got others; draw each by itself")
    figure = need("matplotlib.figure", what="a plot", extra="plot").Figure(figsize=(7, 4), layout="constrained")
    result.plot(figure.add_subplot())
    figure.savefig(path, dpi=150)
