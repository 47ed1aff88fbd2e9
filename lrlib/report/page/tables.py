"""Tables and verdicts of the page, as pandoc made them."""

import re

_VERDICT = re.compile(r"✓ reproduced\b|✗ not reproduced\b|\? inconclusive\b")


def finish_markdown(html):
    """HTML with each verdict, such as `✓ reproduced`, in its colour, and tables and code that scroll by themselves.

    Names in tables, such as minimum_over_ten, may continue in the next line.
    """
    html = re.sub(r"<pre(?=[ >])", '<pre tabindex="0"', html)
    html = re.sub(r"<table.*?</table>", _finish_table, html, flags=re.S)
    return _VERDICT.sub(_color_verdict, html)


def _finish_table(found):
    table = re.sub(r"(<[^>]*>)|_(?=\w)", lambda part: part[1] or "_<wbr>", found[0])
    return f'<div class="scroll" tabindex="0" role="group" aria-label="Table">\n{table}\n</div>'


def _color_verdict(found):
    sign, word = found[0].split(" ", 1)
    kind = word.replace(" ", "-")
    return f'<span class="verdict {kind}"><span aria-hidden="true">{sign}</span> {word}</span>'
