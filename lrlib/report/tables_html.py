"""Tables of the page, as pandoc made them: verdicts in colour, rows to link to, cards on narrow screens."""

import re
from html import escape, unescape

from lrlib.report.verdicts import SIGNS

# How many letters stand beside each other on the narrowest screen, and a cell's padding in letters.
LETTERS, PADDING = 40, 2

_CELL = re.compile(r"<(t[hd])([^>]*)>(.*?)</\1>", re.S)
_ROW = re.compile(r"<tr([^>]*)>(.*?)</tr>", re.S)
_VERDICT = re.compile(f"^({'|'.join(map(re.escape, SIGNS.values()))}) ({'|'.join(map(re.escape, SIGNS))})$")


def finish_table(html, anchors=()):
    """A table's HTML, finished; anchors: an id for each row of its body."""
    head, body, foot = re.match(r"(.*?<tbody>)(.*)(</tbody>.*)", html, re.S).groups()
    names = [_text(cell[2]) for cell in _CELL.findall(head)]
    rows = [[(cell[1], cell[2]) for cell in _CELL.findall(row[1])] for row in _ROW.findall(body)]
    wide = _letters([names, *([_text(cell) for _, cell in row] for row in rows)]) > LETTERS
    cards = len(names) > 2 and (
        wide or (len(names) > 3 and "<colgroup" in head)
    )  # prose in so many columns is no pleasure
    written = []
    for i, row in enumerate(rows):
        anchor = f' id="{anchors[i]}"' if anchors else ""
        cells = [
            _finish_cell(attributes, cell, name if cards else "")
            for (attributes, cell), name in zip(row, names, strict=True)
        ]
        written.append(f"<tr{anchor}{_role('row', cards)}>{''.join(cells)}</tr>")
    if cards:  # a table whose parts are boxes of their own is none for a screen reader, unless it is told
        head = head.replace("<table", '<table class="cards" role="table"').replace("<tr", '<tr role="row"', 1)
        head = re.sub(r"<th(?=[ >])", '<th role="columnheader"', head)
        head = head.replace("<thead", '<thead role="rowgroup"').replace("<tbody", '<tbody role="rowgroup"')
    return _break_names(head + "\n".join(written) + foot)


def _break_names(html):
    """Lets a name like minimum_over_ten go on in the next line; what is copied or read aloud is as it was."""
    return re.sub(r"(<[^>]*>)|_(?=\w)", lambda found: found[1] or "_<wbr>", html)


def _finish_cell(attributes, cell, name):
    if verdict := _VERDICT.match(_text(cell)):
        sign, word = verdict.groups()
        cell = f'<span class="verdict {word.replace(" ", "-")}"><span aria-hidden="true">{sign}</span> {word}</span>'
    label = f' role="cell" data-name="{escape(name)}"' if name else ""
    return f"<td{attributes}{label}>{cell}</td>"


def _role(role, needed):
    return f' role="{role}"' if needed else ""


def _letters(rows):
    """How many letters wide a table is at least: numbers do not break, words do."""
    columns = list(zip(*rows, strict=True))
    return sum(max(len(word) for cell in column for word in (cell.split() or [""])) + PADDING for column in columns)


def _text(html):
    return " ".join(unescape(re.sub(r"<[^>]+>", "", html)).split())
