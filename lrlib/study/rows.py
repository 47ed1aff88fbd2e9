"""Rows of results' tables by the label of their run, which may stand for runs of one problem only."""

import pandas as pd


def require_one_problem(frame: pd.DataFrame) -> pd.DataFrame:
    """A table as it is. Raises ValueError where one label stands for runs of several problems, which must not mix.

    frame: a row per run and epoch, step or the like, with a column run; one without a column problem passes.
    """
    if "problem" in frame:
        for label, problems in frame.groupby("run", sort=False)["problem"]:
            found = problems.unique()
            if len(found) > 1:
                raise ValueError(
                    f"run {label!r} is of {len(found)} problems in these results, {' and '.join(found)}; "
                    f'take the rows of one first, as by frame[frame["problem"] == {found[0]!r}]'
                )
    return frame


def select_run(frame: pd.DataFrame, label: str) -> pd.DataFrame:
    """The rows of a results table that belong to the run of that label.

    Raises ValueError where there are none, or where they are of several problems.
    """
    selected = frame[frame["run"] == label]
    if selected.empty:
        raise ValueError(f"the results hold no run {label!r}; train it with them")
    return require_one_problem(selected)
