"""The published report: what `report/` and README hold of a report that was made."""

import re
import tempfile

from lrlib.errors import LrlibError
from lrlib.project import project_folder
from lrlib.report.notebook_files import nbformat
from lrlib.runs.store import write_whole

FIGURE = "onecycle"  # the figure that README shows


class PublishError(LrlibError):
    """A README or a report that lacks what publishing needs."""


def check_readme():
    """README's text. Raises PublishError where it has no place for the result, or it or `report/` cannot be written:
    better known before hours of training.
    """
    readme = project_folder() / "README.md"
    if not readme.exists():
        raise PublishError(f"{readme} is not there to name what is published; run this in a checkout of lrlib")
    try:
        text = readme.read_text(encoding="utf-8")
        for folder in (readme.parent, readme.parent / "report"):
            with tempfile.TemporaryFile(dir=folder) as file:
                file.write(b"x")
    except OSError as err:
        raise PublishError(
            f"{readme} and the folder report/ beside it cannot be written ({err.strerror}), where a report is "
            "published; let them be written, or make it with `make report`"
        ) from err
    fill_block(text, "published", "")
    return text


def fill_block(text, name, content):
    """README's text with content, whole lines, between its lines <!-- name --> and <!-- /name -->.

    Raises PublishError where there are none.
    """
    block = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.S)
    if not block.search(text):
        raise PublishError(
            f"README.md has no lines <!-- {name} --> and <!-- /{name} -->; put them where the result belongs"
        )
    return block.sub(lambda match: f"{match[1]}{content}{match[2]}", text)


def publish_report(made, *, command):
    """Copy a made report to `report/`, and put its figure, accuracies and commit into README.

    Returns the paths of the published HTML and PDF. Raises PublishError, OSError.
    """
    folder, text = project_folder() / "report", check_readme()
    block, figure = _describe(made, command), _find_output(made.notebooks, FIGURE, "image/svg+xml")
    if figure is None:
        raise PublishError(
            f"the executed notebooks in {made.notebooks} hold no figure {FIGURE!r}; it is the one that README shows"
        )
    text = fill_block(text, "published", block)
    published = [folder / path.name for path in (made.html, made.pdf)]
    for source, target in zip((made.html, made.pdf), published):
        write_whole(target, source.read_bytes())
    write_whole(folder / f"{FIGURE}.svg", figure.encode())
    write_whole(project_folder() / "README.md", text.encode())
    return published


def _describe(made, command):
    rows = [
        f"| {row.method} | {row.accuracy:.2f} % | {row.low:.2f} to {row.high:.2f} % | {row.n} | {row.author:.2f} % |"
        for row in made.accuracies.itertuples()
    ]
    return "\n".join(
        [
            "| schedule | test accuracy | 95 % interval | seeds | author, one seed |",
            "|---|--:|--:|--:|--:|",
            *rows,
            "",
            f"![Learning rates and test losses of the two schedules, beside the author's](report/{FIGURE}.svg)",
            "",
            "The published report: [report.html](report/report.html) and [report.pdf](report/report.pdf), made by",
            f"`{command}` from commit `{made.commit}`.",
            "",
        ]
    )


def _find_output(notebooks, label, kind):
    """What the executed notebooks show under a label, as text of a MIME type; None where they do not."""
    for path in sorted(notebooks.glob("*.ipynb")):
        for cell in nbformat.read(path, as_version=4).cells:
            for output in cell.get("outputs", []):
                if output.get("metadata", {}).get("report", {}).get("label") == label and kind in output.data:
                    return output.data[kind]
    return None
