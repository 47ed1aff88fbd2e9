"""Errors of range-test heuristics, in decades, on curves whose answers are known: ours beside the peers' own code.

    python bench/heuristics.py

Writes bench/build/heuristics.json and prints a Markdown table. Needs the `bench` extra; a peer that is not
installed is left out and said to be.

The curves are levels, falls over log10 lr and walls of several shapes, sampled at 100 and 400 rates from 1e-6 up to
where the loss is four times its least. There are two sets, with a table each: HELD_OUT, on which no constant of
lrlib.suggest was set, and DESIGN, on which some were. Noise is Gaussian, its standard deviation a share of
the fall; "spikes" adds one in 25 losses three times too far up. The answers are read off the curve without noise on
a grid of a thousand rates a decade. Every tool gets its losses as it gets them in use: torch-lr-finder and
Lightning after their running means, fastai after its own, each through its own code; ours raw.
"""

import itertools
import json
from importlib.metadata import version
from pathlib import Path

import numpy as np

from bench.suggestions.competitors import list_missing, list_tools
from lrlib import suggest

REPEATS = 10
NOISES = {
    "none": (0.0, False),
    "1 %": (0.01, False),
    "5 %": (0.05, False),
    "10 %": (0.1, False),
    "5 % + spikes": (0.05, True),
}
BUILD = Path(__file__).parent / "build"


def logistic(x, centre, sharpness):
    return 1 / (1 + 10 ** (sharpness * (x - centre)))


HELD_OUT = {
    "arctan": lambda x: 0.2 + 2.1 * (0.5 - np.arctan(4 * (x + 2.3)) / np.pi) + 0.02 * np.exp(6 * x),
    "symmetric dip": lambda x: 2.3 - 2.2 * np.exp(-((x + 1.8) ** 2)) + np.exp(9 * (x - 0.6)),
    "leaning dip": lambda x: (
        2.3 - 2.1 * np.exp(-(((x + 1.5) / np.where(x < -1.5, 1.6, 0.7)) ** 2)) + np.exp(9 * (x - 0.6))
    ),
    "soft knee": lambda x: 0.15 + 2.1 / np.sqrt(1 + 10 ** (2.4 * (x + 3))) + 0.3 * 10 ** (2 * (x - 0.3)),
    "late fall": lambda x: 0.5 + 1.8 * logistic(x, -0.7, 4) + 10 ** (8 * (x - 0.6)),
}
DESIGN = {
    "plain": lambda x: 0.1 + 2.2 * logistic(x, -2.2, 2) + 10 ** (4 * (x - 0.2)),
    "sharp": lambda x: 0.1 + 2.2 * logistic(x, -1.5, 3) + 10 ** (6 * (x - 0.2)),
    "slow": lambda x: 0.2 + 2.1 * logistic(x, -3, 1) + 10 ** (3 * (x - 0.2)),
    "wide bottom": lambda x: 0.1 + 2.2 * logistic(x, -3.5, 2) + 10 ** (5 * (x - 0.2)),
    "two falls": lambda x: 0.1 + 0.7 * logistic(x, -4, 3) + 1.5 * logistic(x, -2, 3) + 10 ** (4 * (x - 0.2)),
}


CURVES = HELD_OUT | DESIGN


def grid(curve, n):
    """log10 lr and loss, (m,) each with m <= n, up to where the loss is back at four times its least."""
    x = np.linspace(-6, 1.5, n)
    loss = CURVES[curve](x)
    after = np.flatnonzero((loss > 4 * loss.min()) & (np.arange(n) > np.argmin(loss)))
    end = after[0] + 1 if len(after) else n
    return x[:end], loss[:end]


def answers(curve):
    """log10 lr of each thing that the tools look for."""
    x, loss = grid(curve, 7501)
    low = int(np.argmin(loss))
    drop = loss[0] - loss[low]
    start = x[np.flatnonzero(loss[:low] >= loss[0] - 0.05 * drop)[-1]]
    return {
        "steepest": x[np.argmin(np.gradient(loss, x)[: low + 1])],
        "lowest / 10": x[low] - 1,
        "valley": start + 2 / 3 * (x[low] - start),
        "valley's middle": start + 1 / 2 * (x[low] - start),
        "start of fall": start,
        "lowest": x[low],
    }


def noisy(curve, n, noise, spikes, rng):
    x, loss = grid(curve, n)
    drop = loss[0] - loss.min()
    loss = loss + noise * drop * rng.standard_normal(len(loss))
    if spikes:
        hit = rng.random(len(loss)) < 1 / 25
        loss = loss + hit * 3 * drop * rng.random(len(loss))
    return 10**x, loss


def our_tools():
    """{(answer, tool): function (lr, loss) -> lr}"""
    return {
        ("steepest", "lrlib"): lambda lr, loss: suggest.steepest(lr, loss).lr,
        ("lowest / 10", "lrlib"): lambda lr, loss: suggest.minimum_over_ten(lr, loss).lr,
        ("valley", "lrlib"): lambda lr, loss: suggest.valley(lr, loss).lr,
        ("start of fall", "lrlib"): lambda lr, loss: suggest.turning_points(lr, loss).start_of_fall,
        ("lowest", "lrlib"): lambda lr, loss: suggest.turning_points(lr, loss).lowest,
    }


# tool -> the answer that it is to give.
ANSWER_OF = {
    "torch-lr-finder": "steepest",
    "fastai steep": "steepest",
    "fastai slide": "steepest",
    "fastai minimum": "lowest / 10",
    "fastai valley": "valley",
    "Lightning": "steepest",
}


def all_tools():
    """({(answer, tool): function}, {peer: version or why it is left out})"""
    installed = list_tools()
    tools = our_tools() | {(a, tool): installed[tool] for tool, a in ANSWER_OF.items() if tool in installed}
    missing = list_missing()
    peers = ("torch-lr-finder", "fastai", "lightning")
    return tools, {name: "not installed" if name in missing else version(name) for name in peers}


def error(answer, tool, found, known):
    """Decades between the answer and what was found; infinite where nothing was."""
    if found is None or not np.isfinite(found) or found <= 0:
        return np.inf
    away = abs(np.log10(found) - known[answer])
    if tool == "fastai valley":
        # Its words say two thirds into the valley, its code takes the middle: it is credited with the nearer one.
        away = min(away, abs(np.log10(found) - known["valley's middle"]))
    return float(away)


def measure():
    """(rows, versions): a row a curve, number of steps, noise, answer and tool, with the errors of all repeats."""
    tools, versions = all_tools()
    rows = []
    for curve in CURVES:
        known = answers(curve)
        for n, (noise, (share, spikes)) in itertools.product((100, 400), NOISES.items()):
            rng = np.random.default_rng([n, len(rows)])
            histories = [noisy(curve, n, share, spikes, rng) for _ in range(REPEATS if share else 1)]
            for (answer, tool), function in tools.items():
                found = [suggestion_or_none(function, *history) for history in histories]
                errors = [error(answer, tool, value, known) for value in found]
                row = {"curve": curve, "steps": n, "noise": noise, "answer": answer}
                rows.append({**row, "tool": tool, "errors": errors})
                if tool == "lrlib" and share:
                    fives = np.array(found).reshape(-1, 5)
                    medians = 10 ** np.median(np.log10(fives), axis=1)
                    errors = [error(answer, tool, value, known) for value in medians]
                    rows.append({**row, "tool": "lrlib, median of 5", "errors": errors})
    return rows, versions


def suggestion_or_none(function, lr, loss):
    try:
        return function(lr, loss)
    except Exception:  # whatever a peer raises on a curve, its user gets no learning rate
        return None


def table(rows):
    """Markdown: the mean error over curves and repeats, in brackets the 90 % quantile; how often no answer."""
    lines = [
        "| answer | steps | noise | tool | mean error (90 %) in decades | no answer | best |",
        "|---|---|---|---|---|---|---|",
    ]
    keys = list(dict.fromkeys((r["answer"], r["steps"], r["noise"]) for r in rows))
    for answer, steps, noise in sorted(keys, key=lambda key: (list(answers("plain")).index(key[0]), key[1])):
        of_tool = {}
        for row in rows:
            if (row["answer"], row["steps"], row["noise"]) == (answer, steps, noise):
                of_tool.setdefault(row["tool"], []).extend(row["errors"])
        means = {
            tool: np.mean(np.minimum(errors, 7.5)) for tool, errors in of_tool.items()
        }  # no answer: the whole range
        single = {tool: mean for tool, mean in means.items() if tool != "lrlib, median of 5"}
        spacing = 7.5 / (steps - 1)
        for tool, errors in of_tool.items():
            best = "yes" if tool in single and single[tool] <= min(single.values()) + spacing / 2 else ""
            cells = f"{means[tool]:.2f} ({np.quantile(np.minimum(errors, 7.5), 0.9):.2f})"
            lines.append(f"| {answer} | {steps} | {noise} | {tool} | {cells} | {np.isinf(errors).sum()} | {best} |")
    return "\n".join(lines)


def main():
    rows, versions = measure()
    BUILD.mkdir(parents=True, exist_ok=True)
    saved = [{**row, "errors": [None if np.isinf(e) else e for e in row["errors"]]} for row in rows]
    (BUILD / "heuristics.json").write_text(json.dumps({"versions": versions, "rows": saved}, indent=1))
    print(f"Peers: {', '.join(f'{name} {found}' for name, found in versions.items())}.")
    print("Best: the least mean of the tools that see one sweep, or within half the distance of two rates of it.\n")
    print("Curves on which no constant was set:\n")
    print(table([row for row in rows if row["curve"] in HELD_OUT]))
    print("\nCurves on which constants were set:\n")
    print(table([row for row in rows if row["curve"] in DESIGN]))


if __name__ == "__main__":
    main()
