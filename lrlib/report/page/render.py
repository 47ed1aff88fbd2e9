"""A merged notebook as HTML or Typst: its Markdown rendered in one pandoc run, its cells set by a template."""

import re
import subprocess
import warnings
from collections.abc import Callable, Iterable
from copy import deepcopy
from typing import Any

import pypandoc
import yaml
from nbconvert.exporters import TemplateExporter
from traitlets.config import Config

from lrlib.project import project_folder
from lrlib.report.page.citations import BIBLIOGRAPHY
from lrlib.report.page.merge import markdown_pieces
from lrlib.report.publish import list_outputs

TEMPLATES = project_folder() / "report" / "templates"

# Raw HTML and TeX would show in one output and be missing in the other; `(@)` is no numbered example here;
# Jupyter needs no blank line before a list, so neither does the document.
MARKDOWN = "markdown-raw_html-raw_tex-example_lists-implicit_figures+lists_without_preceding_blankline"
OPTIONS = {
    "html": ["--to=html5", "--mathml", "--shift-heading-level-by=1", "--reference-location=block"],
    "typst": ["--to=typst-citations"],
}
BOUNDARY = "<!-- lrlib: next piece -->"
# Which of an output's forms is taken: the first that it has.
PRIORITIES = {
    "html": ["image/svg+xml", "text/markdown", "text/html", "text/plain"],
    "typst": ["image/svg+xml", "text/markdown", "text/plain"],
}


def fill_template(notebook, filters: Iterable[Callable], *, to: str, **resources) -> str:
    """A merged notebook, its Markdown rendered, in the template `report/templates/html` or `typst`.

    The template calls the filters, and reads `resources`. Raises ValueError for Markdown that pandoc cannot read.
    """
    notebook = deepcopy(notebook)
    references = _render_markdown(notebook, to)
    exporter = TemplateExporter(
        config=Config(NbConvertBase={"display_data_priority": PRIORITIES[to]}),
        template_name=to,
        file_extension={"html": ".html", "typst": ".typ"}[to],
        extra_template_basedirs=[str(TEMPLATES)],
        filters={function.__name__: function for function in filters},
    )
    findings = (output for output in list_outputs([notebook]) if output.metadata.report.kind == "findings")
    resources |= {"references": references, "findings": next(findings, None), "authors": list_authors()}
    return exporter.from_notebook_node(notebook, resources)[0]


def _render_markdown(notebook, to):
    """Replace every piece of Markdown in a notebook, and return the list of cited references, "" if none is cited."""
    pieces = list(markdown_pieces(notebook.cells))
    separator = f"\n\n```{{={to}}}\n{BOUNDARY}\n```\n\n"
    # A piece more, empty: citeproc adds the list of references at the end.
    source = separator.join([*(holder[key] for holder, key in pieces), ""])
    cited = sorted(set(re.findall(r"\(#ref-([^)]+)\)", source)))  # by links, which citeproc does not see
    nocite = f"---\nnocite: '{', '.join(f'@{key}' for key in cited)}'\n---\n\n" if cited else ""
    *rendered, references = _pandoc(nocite + source, to).split(BOUNDARY)
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


def list_authors() -> list[str]:
    """The authors' names as CITATION.cff has them."""
    parts = ("given-names", "family-names", "name")
    return [" ".join(author[part] for part in parts if part in author) for author in read_citation()["authors"]]


def read_citation() -> dict[str, Any]:
    """What CITATION.cff says."""
    return yaml.safe_load((project_folder() / "CITATION.cff").read_text(encoding="utf-8"))
