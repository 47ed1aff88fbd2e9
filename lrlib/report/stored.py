"""The content of the cache of trained epochs, and the part that the published documents do not need.

Names of epochs depend on the machine's numerics and on the training code: what another machine or version stored
counts as not needed.
"""

import time

from lrlib.runs.plan import Run, plan_epochs
from lrlib.runs.store import Store, StoreError

SPARED_SECONDS = 3600  # younger files may be of a training that runs now


def list_store(store: Store, runs: list[Run]) -> str:
    """A line about how much a store holds, and how much of what the runs need."""
    files, needed = store.list_files(), _name_epochs(runs)
    held = needed & files.keys()
    total, own = (sum(files[name][0] for name in names) / 1e6 for names in (files, held))
    return (
        f"{store.folder}: {len(files)} epochs, {total:,.1f} MB; "
        f"{len(held)} of the {len(needed)} epochs of the published documents, {own:,.1f} MB"
    )


def prune_store(store: Store, runs: list[Run], dry_run: bool = False) -> str:
    """Remove everything that the runs do not need, except files younger than an hour. Returns a line about it.

    Raises StoreError if the store has nothing of these runs: then most likely it is of another machine or version.
    """
    files = store.list_files()
    needed = _name_epochs(runs)
    if files and not needed & files.keys():
        raise StoreError(
            f"{store.folder} has no epoch of the published documents for this machine and version, so all of it would "
            "be removed; delete the folder if you mean that"
        )
    unneeded = {store.path(name): entry for name, entry in files.items() if name not in needed} | store.list_parts()
    old = {path: size for path, (size, written) in unneeded.items() if written < time.time() - SPARED_SECONDS}
    for path in [] if dry_run else old:
        path.unlink(missing_ok=True)
    verb, kept = "would remove" if dry_run else "removed", len(unneeded) - len(old)
    return f"{verb} {len(old)} files, {sum(old.values()) / 1e6:,.1f} MB; kept {kept} that are less than an hour old"


def _name_epochs(runs):
    return {epoch.name for run in runs for epoch in plan_epochs(run)}
