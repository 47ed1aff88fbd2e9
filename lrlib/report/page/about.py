"""How the report is cited: BibTeX to copy, and what the page tells to machines that collect literature."""

import json
import re
from datetime import datetime

from lrlib.report.page.citations import read_bibliography

AUTHORS = "the lrlib authors"
REPRODUCED = "xie2022"


def write_bibtex(title, about):
    """A BibTeX entry of the report. about: `metadata.report` of a merged notebook."""
    date = _parse_date(about)
    fields = {
        "author": " and ".join(f"{{{name}}}" for name in about.get("authors", []) or [AUTHORS]),
        "title": re.sub(r"([A-Z][\w-]*[A-Z][\w-]*)", r"{\1}", title),  # as it is written: LeNet-5, MNIST
        "year": str(date.year) if date else "",
        "month": f"{date:%b}".lower() if date else "",
        "note": f"Commit {about['commit']}" if about.get("commit") else "",
    }
    braced = {name: value if name == "month" else f"{{{value}}}" for name, value in fields.items() if value}
    return "@misc{lrlib-report,\n" + "".join(f"  {name} = {value},\n" for name, value in braced.items()) + "}"


def list_tags(title, about):
    """(name, content) of the page's `citation_*` tags."""
    date = _parse_date(about)
    tags = [("citation_title", title)]
    tags += [("citation_author", name) for name in about.get("authors", []) or [AUTHORS]]
    tags += [("citation_publication_date", f"{date:%Y/%m/%d}")] if date else []
    return [*tags, ("citation_language", "en")]


def write_json_ld(title, about, cited):
    """The report as a ScholarlyArticle of schema.org, in JSON; cited: keys of works."""
    works, date = read_bibliography(), _parse_date(about)
    article = {
        "@context": "https://schema.org",
        "@type": "ScholarlyArticle",
        "headline": title,
        "description": about.get("subtitle"),
        "author": [{"@type": "Organization", "name": name} for name in about.get("authors", []) or [AUTHORS]],
        "datePublished": f"{date:%Y-%m-%d}" if date else None,
        "version": about.get("commit"),
        "inLanguage": "en",
        "license": "https://spdx.org/licenses/MIT",
        "isBasedOn": works[REPRODUCED].url if REPRODUCED in cited else None,
        "citation": [works[key].url for key in cited if works[key].url],
    }
    told = {name: value for name, value in article.items() if value}
    return json.dumps(told, indent=1, ensure_ascii=False).replace("<", "\\u003c")


def _parse_date(about):
    try:
        return datetime.strptime(about.get("date", ""), "%d %B %Y")
    except ValueError:
        return None
