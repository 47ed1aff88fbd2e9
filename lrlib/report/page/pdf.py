"""A merged notebook as a PDF, typeset by Typst."""

import re
from copy import deepcopy
from pathlib import Path

import matplotlib
import typst
from nbconvert.exporters import TemplateExporter
from traitlets.config import Config

from lrlib.report.page.about import list_authors
from lrlib.report.page.merge import find_findings
from lrlib.report.page.pandoc import TEMPLATES, render_markdown
from lrlib.runs.store import write_whole


def export_pdf(notebook, *, out: Path) -> None:
    """Write a merged notebook as tagged PDF/UA-1; the same input gives the same bytes. Raises ValueError."""
    source, resources = TypstReport().from_notebook_node(notebook)
    try:
        pdf = typst.compile(
            source.encode(),
            root=TEMPLATES / "typst",
            sys_inputs=resources["figures"],
            format="pdf",
            pdf_standards=["ua-1"],
            ignore_system_fonts=True,  # what is installed must not decide the bytes
            font_paths=[Path(matplotlib.get_data_path()) / "fonts" / "ttf"],  # the figures' fonts
        )
    except typst.TypstError as err:
        raise ValueError(f"Typst could not typeset the document: {err.diagnostic}") from err
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
        for function in (typst_string, typst_width):
            yield function.__name__, function

    def from_notebook_node(self, nb, resources=None, **kw):
        nb = deepcopy(nb)
        references = render_markdown(nb, to="typst")
        outputs = [output for cell in nb.cells for output in cell.get("outputs", [])]
        figures = {o.metadata.report.anchor: o.data["image/svg+xml"] for o in outputs if "image/svg+xml" in o.data}
        resources = {**(resources or {}), "references": references, "figures": figures, "findings": find_findings(nb)}
        resources["authors"] = list_authors()
        return super().from_notebook_node(nb, resources, **kw)


def typst_width(svg: str) -> str:
    """How wide a figure is set: three quarters of its own width, at most the text's."""
    own = re.search(r'<svg[^>]* width="([\d.]+)pt"', svg)
    return f"calc.min(16cm, {0.76 * float(own[1]):g}pt)" if own else "16cm"


def typst_string(text: str) -> str:
    """Text as a string literal of Typst."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'
