"""How it was made: what the page has folded at each figure, table and computed sentence."""

import re
from html import escape

from nbconvert.filters import Highlight2HTML

from lrlib.report.recipe import describe_parameters

# Spans of highlighted code whose class has no colour in the page's style: four fifths of them.
_PLAIN = re.compile(r'<span class="(?!(?:k|kn|kc|ow|s1|s2|sa|sd|si|c1|cm|mi|mf)")\w+">([^<]*)</span>')
_NOT_SHOWN = {"parameters", "injected-parameters", "hide"}

WORDS = {"figure": "How this figure was made", "table": "How this table was made"}


def fold_making(notebook, commit):
    """Put into a merged notebook's outputs, under `metadata.made`, and into the last cell of each section, under
    `metadata.lrlib.made`, HTML that says how they were made: the code, the parameters, the command, the commit.

    The code of cells that show nothing is in the section's.
    """
    setup = []
    for cell in notebook.cells:
        place = cell.metadata.lrlib
        recipe = notebook.metadata.lrlib.recipes[place.section]
        if cell.cell_type == "code":
            source = "" if _NOT_SHOWN & set(cell.metadata.get("tags", [])) else cell.source
            if not cell.outputs and source:
                setup.append(source)
            for output in cell.outputs:
                kind = output.metadata.get("report", {}).get("kind")
                if kind not in ("banner", "result"):
                    output.metadata["made"] = _fold(WORDS.get(kind, "How this was computed"), source, recipe, commit)
                elif source and source not in setup:
                    setup.append(source)
        if place.closes:
            if setup:
                place["made"] = _fold("How this section was made", "\n\n".join(setup), recipe, commit)
            setup = []


def _fold(title, source, recipe, commit):
    code = _highlight(source) if source else ""
    parameters = describe_parameters(recipe["parameters"])
    lines = [
        "<p>Made again by "
        f"<code>{escape(recipe['command'])}</code>{f', at commit {escape(commit)}' if commit else ''}.</p>"
    ]
    lines += [f"<p>Parameters: <code>{escape(parameters)}</code></p>"] if parameters else []
    return f'<details class="made"><summary>{title}</summary><div>{"".join(lines)}{code}</div></details>'


def _highlight(source):
    return _PLAIN.sub(r"\1", Highlight2HTML(pygments_lexer="python3")(source)).replace("<pre>", '<pre tabindex="0">')
