"""What the store holds, by run and size, and what of it the published report does not need.

The report's runs are planned anew from its parameters, so their epochs' names are known and nothing is recorded twice.
Those names are of this machine's numerics and this version of the training code: what another machine or version
stored counts as not needed.
"""

import re
import shlex
import time
from collections import defaultdict
from dataclasses import dataclass

from lrlib.project import project_folder
from lrlib.report.need import add_seeds, give_seeds, read_limit
from lrlib.report.parameters import ParameterError, parse_assignments
from lrlib.report.plans import plan_section
from lrlib.report.sections import find_sections, give_values
from lrlib.runs.plan import plan_epochs
from lrlib.runs.store import StoreError
from lrlib.runs.trainer import find_results

# Younger files may be of a training that runs now, by other code or for other runs.
SPARED_SECONDS = 3600
# Runs of others that are listed one by one.
MAX_ROWS = 40


@dataclass(frozen=True)
class Pruned:
    """Artefacts and leftovers of writers that were (or would be) removed, their bytes, and how many are too young."""

    n_removed: int
    n_bytes: int
    n_spared: int


def read_published_command():
    """The command that made the published report, as README has it, such as "make publish SEEDS=5".

    Raises ParameterError where README has none.
    """
    readme = project_folder() / "README.md"
    text = readme.read_text(encoding="utf-8") if readme.exists() else ""
    found = re.search(r"made by\s+`(make publish[^`]*)`", text)
    if not found:
        raise ParameterError(f"{readme} names no published report (`make publish`); run this in a checkout of lrlib")
    return found[1]


def plan_published_runs(command):
    """The Runs that the published report needs. command: as `read_published_command` gives it.

    Runs that follow from the results of others are among them where those results are stored; nothing is trained.
    A dataset left to choice is MNIST: on a machine without it the sample's runs would stand in for those of the report.
    Raises ParameterError, and DatasetError where the dataset cannot be had.
    """
    values = dict(word.split("=", 1) for word in shlex.split(command) if "=" in word)
    if values.pop("QUICK", "0") != "0":
        raise ParameterError(f"the published report is a quick one ({command}); delete the store instead")
    texts = parse_assignments(values.pop("PARAMS", "")) | {name.lower(): value for name, value in values.items()}
    if texts.get("dataset", "auto") == "auto":
        texts["dataset"] = "mnist"
    texts, limit = read_limit(texts)
    sections = give_values(find_sections(), texts)
    plans = [plan_section(section) for section in sections]
    if limit:
        seeds, _ = add_seeds(plans[0].design, limit, train=find_results, say=lambda line: None)
        plans = [plan_section(section) for section in give_seeds(sections, seeds)]
    more = []
    for plan in plans:
        if plan.more_runs and (results := find_results(plan.runs)):
            more += plan.more_runs(results)
    return list(dict.fromkeys([run for plan in plans for run in plan.runs] + more))


def list_store(store, runs, *, title):
    """Lines that say what a store holds: the given runs under a title, then all others, with sizes in MB (1e6 bytes).

    An epoch that several runs share is counted at the first of them.
    """
    files = store.list_files()
    needed, rows = set(), defaultdict(lambda: [0, 0, 0])  # label -> epochs stored, epochs, bytes
    for run in runs:
        row = rows[run.label]
        for epoch in plan_epochs(run):
            row[1] += 1
            row[0] += epoch.name in files
            if epoch.name in files and epoch.name not in needed:
                row[2] += files[epoch.name][0]
            needed.add(epoch.name)
    others = _list_others(store, {name: entry for name, entry in files.items() if name not in needed})
    parts = store.list_parts()
    lines = [f"{store.folder}: {len(files)} epochs, {_mb(sum(size for size, _ in files.values()))}", "", title]
    lines += [_line(label, f"{stored} of {n}", size) for label, (stored, n, size) in rows.items()]
    if others:
        lines += ["", "other runs"] + [_line(label, n, size) for label, n, size in others]
    if parts:
        n_bytes = sum(size for size, _ in parts.values())
        lines += ["", _line("left by writers that were broken off", len(parts), n_bytes)]
    return lines


def prune_store(store, runs, *, dry_run=False):
    """Remove all that the runs do not need, save what is younger than SPARED_SECONDS. Returns Pruned.

    dry_run: remove nothing, and say what would go.
    Raises StoreError where a file cannot be removed, or where the store has nothing of these runs: then most likely
    it is of another machine or version, and all of it would go.
    """
    files, parts = store.list_files(), store.list_parts()
    needed = {epoch.name for run in runs for epoch in plan_epochs(run)}
    if files and not needed & files.keys():
        raise StoreError(
            f"the store {store.folder} has nothing of the published report as this machine and this version make it, "
            "so all of it would go; delete the folder if that is meant"
        )
    before = time.time() - SPARED_SECONDS
    unneeded = {store.path(name): entry for name, entry in files.items() if name not in needed} | parts
    old = {path: size for path, (size, written) in unneeded.items() if written < before}
    if not dry_run:
        for path in old:
            _remove(path)
    return Pruned(len(old), sum(old.values()), len(unneeded) - len(old))


def _list_others(store, files):
    """(label, epochs, bytes) of each run that stored epochs belong to, by what they say of themselves."""
    said = {
        name: values["epoch"] for name in files if "problem" in (values := store.read_values(name)).get("epoch", ())
    }
    parents = {epoch["parent"] for epoch in said.values()}
    counted, rows = set(), []
    for last in sorted(said.keys() - parents, key=lambda name: (said[name]["problem"], said[name]["seed"], name)):
        own, name = [], last
        while name in said and name not in counted:
            own.append(name)
            counted.add(name)
            name = said[name]["parent"]
        end, start = said[last], said[own[-1]]
        label = (
            f"{end['problem']}, {end['optimizer']}, batch {end['batch_size']}, seed {end['seed']}, "
            f"lr {start['lr'][0]:.3g} to {end['lr'][1]:.3g}"
        )
        rows.append((label, len(own), sum(files[name][0] for name in own)))
    if len(rows) > MAX_ROWS:
        rest = rows[MAX_ROWS:]
        rows[MAX_ROWS:] = [(f"{len(rest)} more runs", sum(n for _, n, _ in rest), sum(size for *_, size in rest))]
    silent = [entry for name, entry in files.items() if name not in said]
    if silent:
        rows.append(("of a lrlib that did not write down of what", len(silent), sum(size for size, _ in silent)))
    return rows


def _line(label, epochs, size):
    return f"  {label:<60} {epochs:>12} {_mb(size):>12}"


def _mb(size):
    return f"{size / 1e6:,.1f} MB"


def _remove(path):
    try:
        path.unlink(missing_ok=True)
    except OSError as err:
        raise StoreError(f"{path} cannot be removed ({err.strerror}); let the folder be written") from err
