"""Which runs a section asks for: what its cell tagged `runs` makes of its parameters.

That cell makes `design` and `runs` and trains nothing. So runs can be known, and wrong parameters refused, before
anything is trained. Where runs follow from the results of others, it makes `more_runs` too: Results of `runs` -> Runs.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from lrlib.errors import LrlibError
from lrlib.problems.registry import load_problem
from lrlib.report.parameters import ParameterError
from lrlib.report.sections import Section, find_tagged, first_line
from lrlib.runs.plan import Run

# A plan of more epochs than this is taken for a slip: on one core it is weeks.
MAX_EPOCHS = 1_000_000


@dataclass(frozen=True)
class Plan:
    """What a section asks for: its Design or Evidence, its Runs, and those that follow from their Results, or None.

    more_runs raises ParameterError as `plan_section` does: what it makes is known only when `runs` are trained.
    """

    design: object
    runs: list[Run]
    more_runs: Callable[[object], list[Run]] | None


def plan_section(section: Section, *, trial: bool = False) -> Plan:
    """The Plan that a section makes of its parameters; nothing is trained.

    trial: its dataset only stands in for another one, of more images.
    Raises ParameterError where its parameters do not make runs, or make such as no machine could train or no table
    could tell apart; DatasetError, BackendError.
    """
    notebook = section.notebook
    place = None if notebook is None else find_tagged(notebook, "runs")
    if notebook is None or place is None:
        return Plan(None, [], None)
    namespace = {name: parameter.default for name, parameter in section.declared.items()} | section.values
    given = " ".join(f"{name}={value}" for name, value in section.given.items())
    given = f" (given: {given})" if given else ""
    cell = f"section {section.name}: cell {place + 1} of {section.path.name}"

    def check(runs: object, name: str) -> list[Run]:
        if not isinstance(runs, list | tuple) or not all(isinstance(run, Run) for run in runs):
            raise ParameterError(f"{cell} must make a list of Runs {name}, got {type(runs).__name__}")
        _check_runs(list(runs), f"section {section.name}: ", given, trial)
        return list(runs)

    with _naming(cell, section, given):
        exec(compile(notebook.cells[place].source, str(section.path), "exec"), namespace)
    runs, follow = check(namespace.get("runs"), "called `runs`"), namespace.get("more_runs")
    if follow is None:
        return Plan(namespace.get("design"), runs, None)
    if not callable(follow):
        raise ParameterError(f"{cell} must make `more_runs` a function of Results, got {type(follow).__name__}")

    def more_runs(results: object) -> list[Run]:
        with _naming(f"{cell}: `more_runs`", section, given):
            more = follow(results)
        return check(more, "by `more_runs`")

    return Plan(namespace.get("design"), runs, more_runs)


@contextmanager
def _naming(what: str, section: Section, given: str) -> Iterator[None]:
    """ParameterError that names the section in place of what its code raises; errors that say all are left."""
    try:
        yield
    except LrlibError:
        raise
    except (Exception, SystemExit) as err:
        if isinstance(err, ValueError) and _is_raised_below(err, section.path):
            raise ParameterError(f"section {section.name}: {err}{given}") from err
        raise ParameterError(f"{what} raised {type(err).__name__}: {first_line(err)}{given}") from err


def _is_raised_below(err, path):
    """Whether an error comes from what a cell calls, and so says what is wrong with the parameters."""
    trace = err.__traceback__
    while trace.tb_next:
        trace = trace.tb_next
    return trace.tb_frame.f_code.co_filename != str(path)


def _check_runs(runs, where, given, trial):
    n_epochs = sum(run.epochs for run in runs)
    if n_epochs > MAX_EPOCHS:
        raise ParameterError(
            f"{where}these are {n_epochs:,} epochs, more than the {MAX_EPOCHS:,} that are taken to be meant; "
            f"give fewer epochs, seeds or values{given}"
        )
    for run in dict.fromkeys([] if trial else runs):
        n_train = load_problem(run.problem).find_data().n_train
        if run.batch_size > n_train:
            raise ParameterError(
                f"{where}batch_size must be at most the {n_train:,} training samples of {run.problem}, got "
                f"{run.batch_size}{given}"
            )
    shown = [(r.label, r.seed, r.problem, r.backend, r.epochs, r.batch_size, r.optimizer) for r in dict.fromkeys(runs)]
    alike = Counter(shown)
    label = next((label for (label, *_), n in alike.items() if n > 1), None)
    if label is not None:
        raise ParameterError(
            f"{where}different runs would both be called {label!r} in tables and figures; give values that differ in "
            f"six digits{given}"
        )
