"""Which runs a section asks for: what its cell tagged `runs` makes of its parameters.

That cell makes `design` and `runs` and trains nothing. So runs can be known, and wrong parameters refused, before
anything is trained. Where runs follow from the results of others, it makes `more_runs` too: Results of `runs` -> Runs.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from lrlib.problems.data import DatasetError
from lrlib.problems.registry import load_problem
from lrlib.report.parameters import ParameterError
from lrlib.report.sections import Section, find_tagged, first_line
from lrlib.runs.plan import Run
from lrlib.training.backends import BackendError

# A plan of more epochs than this is taken for a slip: on one core it is weeks.
MAX_EPOCHS = 1_000_000


@dataclass(frozen=True)
class Plan:
    """What a section asks for: its Design or Evidence, its Runs, and those that follow from their Results, or None."""

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
    try:
        exec(compile(notebook.cells[place].source, str(section.path), "exec"), namespace)
    except (BackendError, DatasetError):
        raise
    except (Exception, SystemExit) as err:
        if isinstance(err, ValueError) and _is_raised_below(err, section.path):
            raise ParameterError(f"section {section.name}: {err}{given}") from err
        raise ParameterError(f"{cell} raised {type(err).__name__}: {first_line(err)}{given}") from err
    runs, more_runs = namespace.get("runs"), namespace.get("more_runs")
    if not isinstance(runs, list | tuple) or not all(isinstance(run, Run) for run in runs):
        raise ParameterError(f"{cell} must make a list of Runs called `runs`, got {type(runs).__name__}")
    _check_runs(list(runs), f"section {section.name}: ", given, trial)
    return Plan(namespace.get("design"), list(runs), more_runs if callable(more_runs) else None)


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
