"""A figure's SVG as an element of the page: described, coloured by the page, its panels ready to be stacked."""

import json
import re
from html import escape

from lrlib.report.page.panels import MIME

# The colours that figures are drawn with.
INK, GRID, PAPER = "#1f2328", "#d0d7de", "#ffffff"
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
AUTHOR_COLOR = "#8b949e"
# What the page calls them: it has two of each, for light and dark.
INKS = {INK: "var(--ink)", "#000000": "var(--ink)", GRID: "var(--grid)", PAPER: "var(--paper)",
        AUTHOR_COLOR: "var(--author)"}  # fmt: skip
INKS |= {color.lower(): f"var(--series-{i})" for i, color in enumerate(COLORS, 1)}
GAP = 10  # points between panels under each other


def inline_svg(output):
    """The SVG of a figure's output as HTML: described, coloured by the page, with unique ids."""
    report, panels = output.metadata.report, output.data.get(MIME, [])
    body = re.search(r"<svg.*", output.data["image/svg+xml"], re.S)[0]
    body = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", body, flags=re.S)
    body = re.sub(r' (d|x|y)="[^"]+"', lambda place: re.sub(r"(\.\d\d)\d+", r"\1", place[0]), body)  # to 0.01 pt
    body = re.sub(r' id="panel(\d+)-series(\d+)-\d+"', r' data-of="\1" data-series="\2"', body)
    body = re.sub(r' id="legend_\d+"', ' class="legend"', body)
    moves = _stack(panels) or [(0, 0)] * len(panels)
    for i, (left, top) in enumerate(moves):
        style = f' style="--left:{left}px;--top:{top}px"' if left or top else ""
        body = body.replace(f' id="panel{i}"', f' class="panel" data-panel="{i}"{style}')
    used = set(re.findall(r'(?:url\(|href=")#([^")]+)', body))
    body = re.sub(r' id="([^"]+)"', lambda match: match[0] if match[1] in used else "", body)
    body = re.sub(r'( id="|url\(#|href="#)', rf"\g<1>{report.anchor}-", body)
    body = re.sub(r"#[0-9a-fA-F]{6}\b", lambda ink: INKS.get(ink[0].lower(), ink[0]), body)
    body = re.sub(r">\s+<", "><", body)
    about = f'role="img" aria-label="{escape(" ".join(report.alt.split()))}"'
    return re.sub(r'<svg[^>]*( viewBox="[^"]+")[^>]*>', lambda opening: f"<svg {about}{opening[1]}>", body, count=1)


def plot_style(output):
    """CSS variables of a figure's output. --width: in points. Of panels beside each other, which a narrow page stacks,
    --wide: how many times wider the figure is than its widest panel; --tall: the stack's height over its width.
    """
    panels = output.data.get(MIME, [])
    view_box = re.search(r'viewBox="([^"]+)"', output.data["image/svg+xml"])[1]
    _, _, width, height = map(float, view_box.split())
    style = f"--width:{width:g}"
    if moves := _stack(panels):
        widest = max(panel["area"][2] - panel["area"][0] for panel in panels) + 2 * panels[0]["area"][0]
        stacked = panels[-1]["area"][3] + moves[-1][1]
        style += f";--wide:{width / widest:.3f};--tall:{max(stacked, height) / width:.3f}"
    return style


def panels_json(output):
    """The panels of a figure's output as text of a script element; "" if it has none."""
    panels = output.data.get(MIME)
    text = json.dumps(panels, separators=(",", ":"), ensure_ascii=False).replace("<", "\\u003c") if panels else ""
    return re.sub(r'"color":"(#\w{6})"', lambda found: f'"color":"{INKS.get(found[1].lower(), found[1])}"', text)


def _stack(panels):
    """How far panels beside each other move, right and down in points, to stand under each other; [] if they do."""
    if len(panels) < 2 or panels[1]["area"][0] < panels[0]["area"][2]:
        return []
    moves, bottom = [(0.0, 0.0)], panels[0]["area"][3]
    for panel in panels[1:]:
        left, top, _, end = panel["area"]
        moves.append((round(panels[0]["area"][0] - left, 1), round(bottom + GAP - top, 1)))
        bottom += GAP + end - top
    return moves
