"""Section notebooks as they come from execution, and a document of two that shows everything there is to show."""

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from lrlib.report.page.merge import merge_notebooks

SVG = '<svg xmlns="http://www.w3.org/2000/svg" width="9pt" height="9pt" viewBox="0 0 9 9"><path d="M 0 0 L 9 9"/></svg>'
INKED = (
    '<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
    'width="468pt" height="187pt" viewBox="0 0 468 187"><g id="figure_1"><path d="M 0 0 L 468 0.123456" id="patch_1" '
    'style="fill: #ffffff; stroke: #1f2328"/><path d="M 0 9 L 468 9" style="stroke: #d0d7de" clip-path="url(#p1)"/>'
    '<path d="M 0 20 L 99 90" style="stroke: #4c72b0; stroke-width: 9"/><defs><path id="m1" d="M 0 0 L 9 9"/></defs>'
    '<use xlink:href="#m1"/></g><defs><clipPath id="p1"><rect width="468" height="187"/></clipPath></defs></svg>'
)
UNUSUAL = r"C\# costs \$5 \@ 100% a\*b snake_case lr<1e-3 & Łódź a\|b \[1\] \"q\" // <b>x</b>"
UNUSUAL_READ = 'C# costs $5 @ 100% a*b snake_case lr<1e-3 & Łódź a|b [1] "q" // <b>x</b>'
FORMULA = r'\begin{align} a &= \text{a "b"} \\ b &= \frac{c}{d} \end{align}'
OUTCOME = {"verdicts": {"C1": "reproduced"}, "values": {"a": "1 < 2 %"}, "command": "make report", "commit": "abc"}


def write_section(folder, number, anchor, cells, **about):
    about = {"section": number, "anchor": anchor, "command": f"make section NAME={number}", **about}
    path = folder / f"{number}-{anchor}.ipynb"
    nbformat.write(new_notebook(cells=cells, metadata={"lrlib": about}), path)
    return path


def merge_cells(folder, *cells):
    """A document of one section, "A"."""
    return merge_notebooks([write_section(folder, "1", "a", cells)])


def prose(text):
    return new_markdown_cell(text)


def shows(*outputs, source="show()", tags=()):
    return new_code_cell(source, outputs=list(outputs), metadata={"tags": list(tags)})


def figure(label, caption="A caption.", alt="A line.", svg=SVG):
    report = {"kind": "figure", "label": label, "caption": caption, "alt": alt}
    data = {"image/svg+xml": svg, "text/csv": "x,y\n1,2\n", "text/plain": alt}
    return new_output("display_data", data, metadata={"report": report})


def table(label, markdown="| a |\n|---|\n| b |", caption="A caption.", **more):
    report = {"kind": "table", "label": label, "caption": caption, **more}
    data = {"text/markdown": markdown, "text/csv": "a\nb\n", "text/plain": "a"}
    return new_output("display_data", data, metadata={"report": report})


def words(markdown, kind="text", **more):
    report = {"kind": kind, **more}
    return new_output("display_data", {"text/markdown": markdown, "text/plain": markdown}, metadata={"report": report})


def outputs_of(notebook):
    return [output for cell in notebook.cells for output in cell.get("outputs", [])]


def merge_everything(folder):
    frame = {"text/html": '<table border="1"><tr><td>7.5</td></tr></table>', "text/plain": "   a\n0  7.5"}
    abstract = [
        prose('# Rates < 1 & "more" #1\n\nAfter @smith2017 and $\\eta = 10^{-3}$, see @sec-test.'),
        shows(words("The **sample** only.", "banner"), source="hidden()", tags=["hide"]),
        shows(words("Found *this*.\n\n- [C1](#claim-c1) ✓ reproduced\n- C2 ✗ not reproduced", "findings")),
    ]
    test = [
        prose(f"# The *test*\n\nWords:\n- a list without a blank line\n\n$${FORMULA}$$\n\n## Detail"),
        shows(source="secret = 3  # <all>", tags=["parameters"]),
        shows(source="setup()"),
        shows(figure("one", caption=f"As in @tbl-t. {UNUSUAL}", alt='A "line"\\ <up> #1.', svg=INKED)),
        shows(figure("two", svg=INKED)),
        shows(table("t", f"| a_b | b |\n|:--|--:|\n| {UNUSUAL} | ? inconclusive |", anchors=["claim-c1"])),
        shows(table("wide", f"| a | b |\n|{'-' * 30}|{'-' * 70}|\n| x | y |")),
        shows(new_output("execute_result", frame, execution_count=1)),
        shows(new_output("execute_result", {"text/plain": '<Thing "b" #1 *> \\'}, execution_count=2)),
    ]
    sections = [
        write_section(folder, "", "abstract", abstract),
        write_section(folder, "1.1", "test", test, part="Part"),
    ]
    merged = merge_notebooks(sections)
    merged.metadata["report"] = {"subtitle": "S", "date": "1 May 2026", "commit": "abc",
                                 "command": "make report", "outcome": OUTCOME}  # fmt: skip
    return merged
