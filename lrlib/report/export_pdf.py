"""A merged notebook as a PDF, typeset by Typst."""

import re
from copy import deepcopy
from pathlib import Path

import typst
from nbconvert.exporters import TemplateExporter
from traitlets.config import Config

from lrlib.report.document import find_result
from lrlib.report.pandoc import TEMPLATES, render_markdown
from lrlib.runs.store import write_whole


def export_pdf(notebook, *, out):
    """Write a merged notebook (`merge_notebooks`) to the file `out` as tagged PDF/UA-1.

    The same input gives the same bytes.
    Title, subtitle, date, authors and commit come from `metadata.report` where it has them.
    Raises ValueError for what Typst cannot typeset.
    """
    source, resources = TypstReport().from_notebook_node(notebook)
    try:
        pdf = typst.compile(
            source.encode(),
            root=TEMPLATES / "typst",
            sys_inputs=resources["figures"],
            format="pdf",
            pdf_standards=["ua-1"],
            ignore_system_fonts=True,  # what is installed must not decide the bytes
        )
    except typst.TypstError as err:
        raise ValueError(f"Typst could not typeset the report: {err.diagnostic}") from err
    write_whole(Path(out), pdf)


class TypstReport(TemplateExporter):
    """nbconvert's assembling into Typst; the figures go beside the text, anchor -> SVG, in `resources["figures"]`."""

    file_extension = ".typ"
    output_mimetype = "text/x-typst"
    template_name = "typst"
    extra_template_basedirs = [str(TEMPLATES)]

    @property
    def default_config(self):
        config = super().default_config
        config.merge(Config(NbConvertBase={"display_data_priority": ["image/svg+xml", "text/markdown", "text/plain"]}))
        return config

    def default_filters(self):
        yield from super().default_filters()
        yield "typst_string", typst_string
        yield "typst_width", typst_width

    def from_notebook_node(self, nb, resources=None, **kw):
        nb = deepcopy(nb)
        references = render_markdown(nb, to="typst")
        resources = {**(resources or {}), "references": references, "figures": figures(nb), "result": find_result(nb)}
        return super().from_notebook_node(nb, resources, **kw)


def figures(notebook):
    """The SVG of every figure of a merged notebook: anchor -> text."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return {out.metadata.report.anchor: out.data["image/svg+xml"] for out in outputs if "image/svg+xml" in out.data}


def typst_width(svg, width):
    """How wide a figure is set, as Typst has it: its own width, which its type is made for, at most the text's."""
    own = re.search(r'<svg[^>]* width="([\d.]+)pt"', svg)
    if own is None:
        return "55%" if width == "half" else "100%"
    most = "15.8cm" if width == "full" else "8.7cm"
    return f"calc.min({most}, {own[1]}pt)"


def typst_string(text):
    """Text as a string literal of Typst."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'
