"""A merged notebook as a PDF, typeset by Typst."""

import re
from pathlib import Path

import matplotlib
import typst

from lrlib.report.page.render import TEMPLATES, fill_template
from lrlib.report.publish import list_outputs
from lrlib.runs.store import write_whole


def export_pdf(notebook, *, out: Path) -> None:
    """Write a merged notebook as tagged PDF/UA-1; the same input gives the same bytes. Raises ValueError."""
    source = fill_template(notebook, (typst_string, typst_width), to="typst")
    outputs = [output for output in list_outputs([notebook]) if "image/svg+xml" in output.data]
    figures = {output.metadata.report.anchor: output.data["image/svg+xml"] for output in outputs}
    try:
        pdf = typst.compile(  # type: ignore[call-overload]  # whose types want a root of bytes for a source of bytes
            source.encode(),
            root=TEMPLATES / "typst",
            sys_inputs=figures,
            format="pdf",
            pdf_standards=["ua-1"],
            ignore_system_fonts=True,  # what is installed must not decide the bytes
            font_paths=[Path(matplotlib.get_data_path()) / "fonts" / "ttf"],  # the figures' fonts
        )
    except typst.TypstError as err:
        raise ValueError(f"Typst could not typeset the document: {err.diagnostic}") from err
    write_whole(Path(out), pdf)


def typst_width(svg: str) -> str:
    """How wide a figure is set: three quarters of its own width, at most the text's."""
    own = re.search(r'<svg[^>]* width="([\d.]+)pt"', svg)
    return f"calc.min(16cm, {0.76 * float(own[1]):g}pt)" if own else "16cm"


def typst_string(text: str) -> str:
    """Text as a string literal of Typst."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'
