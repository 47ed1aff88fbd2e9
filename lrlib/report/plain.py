"""Images that a section shows without the report's words: they are shown too, without a number."""

import base64
import io
import warnings

from PIL import Image

from lrlib.report.notebook_files import nbformat

RASTERS = ("image/png", "image/jpeg", "image/gif", "image/webp")
WORDLESS = "A figure that its notebook does not describe."


def has_image(output: nbformat.NotebookNode) -> bool:
    """Whether an output holds an image of a kind that a report can show."""
    return "image/svg+xml" in output.data or any(mime in output.data for mime in RASTERS)


def frame_image(output: nbformat.NotebookNode, *, anchor: str, where: str) -> None:
    """Have an output with an image be a figure without number and caption, as an SVG, in place.

    Warns, for what nobody can see who cannot see the figure is missing. where: the notebook's name, for the warning.
    """
    report = output.metadata.get("report", {})
    what = f"figure {report['label']!r}" if "label" in report else "a figure"
    warnings.warn(
        f"{where}: {what} has no alternative text, number or caption; lrlib.report.display.show_figure gives it those",
        stacklevel=2,
    )
    if "image/svg+xml" not in output.data:
        mime = next(mime for mime in RASTERS if mime in output.data)
        output.data["image/svg+xml"] = _embed(mime, output.data[mime])
    output.metadata["report"] = {"kind": "plain", "anchor": anchor, "alt": WORDLESS, "caption": "", "width": "full"}


def _embed(mime, encoded):
    """An SVG of one raster image, base64-encoded as notebooks have it."""
    encoded = "".join(encoded.split())
    width, height = Image.open(io.BytesIO(base64.b64decode(encoded))).size
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}pt" height="{height}pt" viewBox="0 0 {width} {height}">'
        f'<image width="{width}" height="{height}" href="data:{mime};base64,{encoded}"/></svg>'
    )
