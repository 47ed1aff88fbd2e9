"""What the cache of trained epochs holds, and which of it the published documents do not need.

Names of epochs depend on the machine's numerics and on the training code: what another machine or version stored
counts as not needed.
"""

import time

from lrlib.report.documents import list_documents
from lrlib.runs import published
from lrlib.runs.plan import Run, plan_epochs
from lrlib.runs.store import Store, StoreError

SPARED_SECONDS = 3600  # younger files may be of a training that runs now


def list_published_runs() -> list[Run]:
    """The Runs of the published documents' results."""
    paths = [document.results for document in list_documents() if document.results.exists()]
    return list(dict.fromkeys(run for path in paths for run in published.read(path).runs))


def list_store(store: Store, runs: list[Run]) -> list[str]:
    """Lines that say what a store holds of the runs, by label, and of others; an epoch's bytes are counted once."""
    files = store.list_files()
    others, rows = set(files), []
    for label in dict.fromkeys(run.label for run in runs):
        names = {epoch.name for run in runs if run.label == label for epoch in plan_epochs(run)}
        rows.append((label, f"{len(names & files.keys())} of {len(names)}", names & others))
        others -= names
    rows.append(("other runs", str(len(others)), others))
    lines = [f"{store.folder}: {len(files)} epochs, {sum(size for size, _ in files.values()) / 1e6:,.1f} MB"]
    for label, epochs, own in rows:
        lines.append(f"  {label:<60} {epochs:>12} {sum(files[name][0] for name in own) / 1e6:>12,.1f} MB")
    return lines


def prune_store(store: Store, runs: list[Run], dry_run: bool = False) -> str:
    """Remove everything that the runs do not need, except files younger than an hour. Returns a line about it.

    Raises StoreError if a file cannot be removed, or the store has nothing of these runs: then most likely it is of
    another machine or version.
    """
    files = store.list_files()
    needed = {epoch.name for run in runs for epoch in plan_epochs(run)}
    if files and not needed & files.keys():
        raise StoreError(
            f"{store.folder} has no epoch of the published documents for this machine and version, so all of it would "
            "be removed; delete the folder if you mean that"
        )
    unneeded = {store.path(name): entry for name, entry in files.items() if name not in needed} | store.list_parts()
    old = {path: size for path, (size, written) in unneeded.items() if written < time.time() - SPARED_SECONDS}
    for path in [] if dry_run else old:
        try:
            path.unlink(missing_ok=True)
        except OSError as err:
            raise StoreError(f"{path} cannot be removed ({err.strerror}); permit writing to its folder") from err
    verb, kept = "would remove" if dry_run else "removed", len(unneeded) - len(old)
    return f"{verb} {len(old)} files, {sum(old.values()) / 1e6:,.1f} MB; kept {kept} that are less than an hour old"
