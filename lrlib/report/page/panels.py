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
        for artist in (*axes.get_lines(), *axes.collections):
            name = artist.get_gid() or artist.get_label()
            if name and not str(name).startswith("_") and _has_data(artist, axes):
                series.setdefault(str(name), []).append(artist)
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
    height, panels = figure.bbox.height * 72 / figure.dpi, []
    for axes, named in zip(figure.axes, series, strict=True):
        panels.append(
            {
                "area": _corners(axes.get_tightbbox(), figure, height),
                "box": _corners(axes.get_window_extent(), figure, height),
                "x": _describe_axis(axes.xaxis, axes.get_xlim(), axes.get_xscale()),
                "y": _describe_axis(axes.yaxis, axes.get_ylim(), axes.get_yscale()),
                "series": [_describe_series(name, artists) for name, artists in named.items()],
            }
        )
    return panels


def _has_data(artist, axes):
    if isinstance(artist, PolyCollection | LineCollection):
        return True
    return isinstance(artist, Line2D) and artist.get_transform() == axes.transData and len(artist.get_xdata()) > 0


def _corners(box, figure, height):
    """A box in pixels from the bottom left, in points from the top left."""
    scale = 72 / figure.dpi
    return [
        round(float(at), 1) for at in (box.x0 * scale, height - box.y1 * scale, box.x1 * scale, height - box.y0 * scale)
    ]


def _describe_axis(axis, limits, scale):
    found = {"label": axis.label.get_text(), "scale": scale, "limits": _round(limits)}
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
