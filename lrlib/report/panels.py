"""A matplotlib figure's panels as data: where they stand in its SVG, their axes, and the series drawn in them.

The page's script reads values off them and draws them anew, zoomed or with another scale. A series is what has one
name in a panel: the name is an artist's gid where it was given one, else its label; artists without either are scenery.
"""

import numpy as np
from matplotlib.collections import FillBetweenPolyCollection, LineCollection
from matplotlib.colors import to_hex
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator

MIME = "application/vnd.lrlib.panels+json"
DIGITS = 5  # significant digits of a value: more than a figure shows


def name_panels(figure):
    """Mark a figure's panels, series and lasting words by gids, which are ids in its SVG; to be called before it is
    saved.

    Returns the series: for each panel a dict name -> artists.
    """
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
        for k, words in enumerate((axes._left_title, axes.title, axes.xaxis.label, axes.yaxis.label)):
            words.set_gid(f"lasting{i}-{k}")
        found.append(series)
    return found


def describe_panels(figure, series, *, seeds=()):
    """The panels of a figure that was saved as SVG, as JSON: a dict a panel.

    area: left, top, right, bottom of all that belongs to the panel, in points from the figure's top left; box: of its
    axes. x, y: label, scale, limits, and words where ticks are words. marks: vertical lines at an x. series: name,
    color,
    width, dash, marker, x, y, and band (x, low, high). seeds, where it is given for a panel: where the figure's CSV
    has the
    values of each seed: rows that have the series' name in column "by" and what "where" has, {"x": column, "y": column,
    "by": column, "where": {column: value}}.
    """
    height = figure.bbox.height * 72 / figure.dpi
    panels = []
    for i, (axes, named) in enumerate(zip(figure.axes, series, strict=True)):
        panel = {
            "area": _corners(axes.get_tightbbox(), figure, height),
            "box": _corners(axes.get_window_extent(), figure, height),
            "x": _describe_axis(axes.xaxis, axes.get_xlim(), axes.get_xscale()),
            "y": _describe_axis(axes.yaxis, axes.get_ylim(), axes.get_yscale()),
            "marks": [
                {"x": _round(line.get_xdata()[:1])[0], "color": to_hex(line.get_color())}
                for line in axes.get_lines()
                if line.get_transform() == axes.get_xaxis_transform()  # as axvline draws
            ],
            "series": [_describe_series(name, artists) for name, artists in named.items()],
        }
        if i < len(seeds) and seeds[i]:
            panel["seeds"] = seeds[i]
        panels.append(panel)
    return panels


def _has_data(artist, axes):
    if isinstance(artist, FillBetweenPolyCollection | LineCollection):
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
    found = {"name": name}
    if not lines:
        return found
    first = lines[0]
    found |= {"color": to_hex(first.get_color()), "width": _round([first.get_linewidth()])[0]}
    if first.get_linestyle() in ("None", ""):
        found["width"] = 0
    if first.is_dashed():
        found["dash"] = _round(first._unscaled_dash_pattern[1])
    if any(line.get_marker() not in ("None", None, "", " ") for line in lines):
        found["marker"] = True
    found["x"] = _string([line.get_xdata(orig=False) for line in lines])
    found["y"] = _string([line.get_ydata(orig=False) for line in lines])
    for artist in artists:
        if isinstance(artist, FillBetweenPolyCollection) and artist.get_paths():
            found["band"] = _edges(artist)
    return found


def _string(lines):
    """The values of several lines as one list, a gap between each two."""
    return [value for values in lines for value in (*_round(values), None)][:-1]


def _edges(band):
    """x, low and high of a band, from its outline."""
    x, y = np.concatenate([path.vertices for path in band.get_paths()]).T
    at = np.unique(x)
    ends = [(y[x == one].min(), y[x == one].max()) for one in at]
    return [_round(at), *(_round(edge) for edge in zip(*ends, strict=True))]


def _round(values):
    """Numbers as JSON has them; what is not finite is None."""
    return [float(f"{value:.{DIGITS}g}") if np.isfinite(value) else None for value in values]
