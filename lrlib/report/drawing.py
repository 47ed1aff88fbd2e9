"""A figure's SVG as an element of the page: described, coloured by the page, its panels ready to be stacked."""

import json
import re
from html import escape

from lrlib.report.panels import MIME
from lrlib.study.colors import AUTHOR_COLOR, COLORS, GRID, INK, PAPER

# Colours that figures are drawn with (and matplotlib's own black), and what the page calls them: it has two of each.
INKS = {
    INK: "var(--ink)",
    "#000000": "var(--ink)",
    GRID: "var(--grid)",
    PAPER: "var(--paper)",
    AUTHOR_COLOR: "var(--author)",
}
INKS |= {color.lower(): f"var(--series-{i})" for i, color in enumerate(COLORS, 1)}

_SERIES = re.compile(r' id="panel(\d+)-series(\d+)-\d+"')


def inline_svg(svg, report, panels=()):
    """The SVG of a figure: described, colours by the page, ids its own and only those in use.

    report: the figure's metadata, with its anchor. panels: as `lrlib.report.panels.describe_panels` gives them; what
    they
    name keeps its name in attributes of data.
    """
    body = re.search(r"<svg.*", svg, re.S)[0]
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.S)
    body = re.sub(r' (d|x|y)="[^"]+"', lambda place: re.sub(r"(\.\d\d)\d+", r"\1", place[0]), body)  # to 0.01 pt
    if panels:
        body = _name_parts(body, panels)
    used = set(re.findall(r'(?:url\(|href=")#([^)"]+)', body))
    body = re.sub(r' id="([^"]+)"', lambda match: match[0] if match[1] in used else "", body)
    body = re.sub(r'( id="|url\(#|href="#)', rf"\g<1>{report.anchor}-", body)
    body = re.sub(r"#[0-9a-fA-F]{6}", lambda ink: INKS.get(ink[0].lower(), ink[0]), body)
    body = re.sub(r"<!--.*?-->", "", body)
    body = re.sub(r">\s+<", "><", body)
    opening = f'<svg role="img" aria-label="{escape(" ".join(report.alt.split()))}" viewBox="{_view_box(body)}">'
    return re.sub(r"<svg[^>]*>", lambda _: opening, body, count=1)


def _name_parts(body, panels):
    body = _SERIES.sub(r' data-of="\1" data-series="\2"', body)
    body = re.sub(r' id="(?:lasting[\d-]+|legend_\d+)"', ' class="lasting"', body)
    body = re.sub(r' id="matplotlib\.axis_\d+"', ' class="axis"', body)
    for i, offset in enumerate(_stack(panels)):
        style = f' style="--left:{offset[0]}px;--top:{offset[1]}px"' if any(offset) else ""
        body = body.replace(f' id="panel{i}"', f' class="panel" data-panel="{i}"{style}')
    return body


def _stack(panels):
    """How far each panel moves, left and down in points, to stand under the first: pairs."""
    lefts = [panel["area"][0] for panel in panels]
    heights = [panel["area"][3] for panel in panels]
    step = max(heights) + 10
    return [(round(lefts[0] - left, 1), round(i * step, 1)) for i, left in enumerate(lefts)]


def plot_style(svg, panels=()):
    """CSS variables that say how large a figure is by itself, and how its panels stand under each other.

    --width: in points. --wide: how many times wider it is than its widest panel. --tall: the stack's height over the
    figure's width.
    """
    _, _, width, height = (float(number) for number in _view_box(svg).split())
    style = f"--width:{width:g}"
    if len(panels) > 1:
        widest = max(panel["area"][2] - panel["area"][0] for panel in panels) + 2 * panels[0]["area"][0]
        stacked = _stack(panels)[-1][1] + max(panel["area"][3] for panel in panels)
        style += f";--wide:{width / widest:.3f};--tall:{max(stacked, height) / width:.3f}"
    return style


def panels_json(panels):
    """Panels as text within a script element."""
    return json.dumps(panels, separators=(",", ":"), ensure_ascii=False).replace("<", "\\u003c")


def panels_of(output):
    """The panels of a figure's output; none where it says nothing of them."""
    return output.data.get(MIME, [])


def _view_box(svg):
    return re.search(r'viewBox="([^"]+)"', svg)[1]
