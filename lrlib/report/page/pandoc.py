"""Markdown of a whole notebook to HTML or Typst, in one pandoc run."""

import subprocess
import warnings

import pypandoc

from lrlib.project import project_folder
from lrlib.report.page.citations import BIBLIOGRAPHY
from lrlib.report.page.merge import markdown_pieces

TEMPLATES = project_folder() / "report" / "templates"

# Raw HTML and TeX would show in one output and be missing in the other; `(@)` is no numbered example here;
# Jupyter needs no blank line before a list, so neither does the document.
MARKDOWN = "markdown-raw_html-raw_tex-example_lists-implicit_figures+lists_without_preceding_blankline"
OPTIONS = {
    "html": ["--to=html5", "--mathml", "--shift-heading-level-by=1", "--reference-location=block"],
    "typst": ["--to=typst-citations"],
}
BOUNDARIES = {"html": "<!-- lrlib: next piece -->", "typst": "// lrlib: next piece"}


def render_markdown(notebook, *, to):
    """Replace every piece of Markdown in a merged notebook by HTML or Typst, in place.

    Returns the list of cited references, rendered likewise; "" if none is cited. Raises ValueError for Markdown that
    pandoc cannot read.
    """
    pieces = list(markdown_pieces(notebook.cells))
    boundary = BOUNDARIES[to]
    separator = f"\n\n```{{={to}}}\n{boundary}\n```\n\n"
    cited = notebook.metadata.get("lrlib", {}).get("cited", [])
    nocite = f"---\nnocite: '{', '.join(f'@{key}' for key in cited)}'\n---\n\n" if cited else ""
    # A piece more, empty: citeproc adds the list of references at the end.
    source = nocite + separator.join([*(holder[key] for holder, key in pieces), ""])
    *rendered, references = _pandoc(source, to).split(boundary)
    if len(rendered) != len(pieces):
        raise ValueError("a Markdown cell opens a code fence (```) and does not close it; close it in that cell")
    for (holder, key), text in zip(pieces, rendered, strict=True):
        holder[key] = text.strip()
    return references.strip()


def _pandoc(source, to):
    command = [
        pypandoc.get_pandoc_path(),
        f"--data-dir={TEMPLATES}",  # a user's own may hold another style of citations
        f"--from={MARKDOWN}",
        *OPTIONS[to],
        f"--lua-filter={TEMPLATES / 'filter.lua'}",
        "--syntax-highlighting=none",
        "--citeproc",
        f"--bibliography={BIBLIOGRAPHY}",
        "--metadata=link-citations",
        "--wrap=preserve",
    ]
    done = subprocess.run(command, input=source, capture_output=True, encoding="utf-8")
    if done.returncode:
        raise ValueError(f"pandoc could not render the Markdown: {' '.join(done.stderr.split())}")
    for warning in done.stderr.split("[WARNING] ")[1:]:  # pandoc goes on, and marks an unknown citation in the text
        warnings.warn(f"Markdown: {' '.join(warning.split())}", stacklevel=2)
    return done.stdout
