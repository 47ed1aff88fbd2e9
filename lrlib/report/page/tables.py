"""Tables and verdicts of the page, as pandoc made them."""

import re

_VERDICT = re.compile(r"✓ reproduced\b|✗ not reproduced\b|\? inconclusive\b")


def color_verdicts(html):
    """HTML with each verdict, such as `✓ reproduced`, in its colour."""

    def color(found):
        sign, word = found[0].split(" ", 1)
        kind = word.replace(" ", "-")
        return f'<span class="verdict {kind}"><span aria-hidden="true">{sign}</span> {word}</span>'

    return _VERDICT.sub(color, html)


def finish_table(html):
    """A table's HTML: verdicts in colour, and names like minimum_over_ten may go on in the next line."""
    return color_verdicts(re.sub(r"(<[^>]*>)|_(?=\w)", lambda found: found[1] or "_<wbr>", html))
