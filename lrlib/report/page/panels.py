"""A matplotlib figure's panels as data: where they stand in its SVG, their axes, and the series drawn in them.

The page's script reads values off them and hides series. A series is what has one name in a panel: the name is an
artist's gid if it has one, else its label; artists without either are scenery.
"""

import numpy as np
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.colors import to_hex
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator

MIME = "application/vnd.lrlib.panels+json"
DIGITS = 5  # significant digits of a value: more than a figure shows


def name_panels(figure):
    """Mark a figure's panels and series by gids, which become ids in its SVG. Returns each panel's name -> artists."""
    found = []
    for i, axes in enumerate(figure.axes):
        series = {}
        lines = [line for line in axes.get_lines() if line.get_transform() == axes.transData and len(line.get_xdata())]
        bands = [each for each in axes.collections if isinstance(each, PolyCollection | LineCollection)]
        for artist in lines + bands:
            name = str(artist.get_gid() or artist.get_label())
            if name and not name.startswith("_"):
                series.setdefault(name, []).append(artist)
        for j, artists in enumerate(series.values()):
            for k, artist in enumerate(artists):
                artist.set_gid(f"panel{i}-series{j}-{k}")
        axes.set_gid(f"panel{i}")
        found.append(series)
    return found


def describe_panels(figure, series):
    """The panels of a figure that was saved as SVG, as JSON; series: what `name_panels` returned.

    A dict per panel. area: left, top, right, bottom of all that belongs to it, in points from the figure's top left;
    box: those of its axes. x, y: label, scale, limits, and words where ticks are words. series: name, color, x, y.
    """
    return [
        {
            "area": _corners(axes.get_tightbbox(), figure),
            "box": _corners(axes.get_window_extent(), figure),
            "x": _describe_axis(axes.xaxis),
            "y": _describe_axis(axes.yaxis),
            "series": [_describe_series(name, artists) for name, artists in named.items()],
        }
        for axes, named in zip(figure.axes, series, strict=True)
    ]


def _corners(box, figure):
    """A box in pixels from the bottom left, in points from the top left."""
    height = figure.bbox.height
    return [round(float(at * 72 / figure.dpi), 1) for at in (box.x0, height - box.y1, box.x1, height - box.y0)]


def _describe_axis(axis):
    limits = _round(axis.get_view_interval())
    found = {"label": axis.label.get_text(), "scale": axis.get_scale(), "limits": limits}
    if isinstance(axis.get_major_locator(), FixedLocator):
        words = [label.get_text() for label in axis.get_ticklabels()]
        found["words"] = [list(pair) for pair in zip(_round(axis.get_majorticklocs()), words, strict=True)]
    return found


def _describe_series(name, artists):
    lines = [artist for artist in artists if isinstance(artist, Line2D)]
    if not lines:
        return {"name": name}
    return {
        "name": name,
        "color": to_hex(lines[0].get_color()),
        "x": _string([line.get_xdata(orig=False) for line in lines]),
        "y": _string([line.get_ydata(orig=False) for line in lines]),
    }


def _string(lines):
    """The values of several lines as one list, a gap between each two."""
    return [value for values in lines for value in (*_round(values), None)][:-1]


def _round(values):
    """Numbers as JSON has them; what is not finite is None."""
    return [float(f"{value:.{DIGITS}g}") if np.isfinite(value) else None for value in values]
