"""Seeds by need (`SEEDS=auto`): seeds are added to a report until its claims are settled or a limit is reached.

One number of seeds is for all sections: they share runs, and their figures, tables and accuracies are of the same
seeds. What was trained is in the store, so a report that is broken off goes through the same looks
again in seconds.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import replace

from lrlib.report.parameters import ParameterError
from lrlib.report.sections import Section
from lrlib.runs.plan import Run
from lrlib.runs.results import Results
from lrlib.study.claims import INCONCLUSIVE, Verdict, check_all
from lrlib.study.experiments import Design
from lrlib.study.looks import MOST_SEEDS, STEP, list_looks
from lrlib.study.words import count, join, needed

AUTO = "auto"
USUAL_LIMIT = 30


def read_limit(texts: dict[str, str]) -> tuple[dict[str, str], int | None]:
    """Values with the number of seeds of the first look in place of "auto", and how many may be added by need; the
    values as they are, and None, where the number of seeds is given.

    texts: name -> value as it is written on the command line. Raises ParameterError.
    """
    if texts.get("seeds") != AUTO:
        if "max_seeds" in texts:
            raise ParameterError(
                f"max_seeds is up to how many seeds SEEDS={AUTO} goes, got {texts['max_seeds']} with "
                f"{'seeds=' + texts['seeds'] if 'seeds' in texts else 'no seeds'}; add SEEDS={AUTO} or leave it out"
            )
        return texts, None
    text = texts.get("max_seeds", str(USUAL_LIMIT))
    if not re.fullmatch("[0-9]{1,9}", text) or not STEP <= int(text) <= MOST_SEEDS:
        raise ParameterError(
            f"max_seeds must be a whole number from {STEP} to {MOST_SEEDS}, got {text or 'nothing'}; by default it is "
            f"{USUAL_LIMIT} (up to how many seeds SEEDS={AUTO} goes)"
        )
    return texts | {"seeds": str(list_looks(int(text))[0]), "max_seeds": text}, int(text)


def refuse_auto(texts: dict[str, str], section: str) -> None:
    """Raises ParameterError where seeds by need are asked of a section."""
    if texts.get("seeds") == AUTO:
        raise ParameterError(
            f"section {section}: seeds are added by need to the whole report, whose claims share their runs "
            f"(make report SEEDS={AUTO}); give a section how many, such as SEEDS=10"
        )


def give_seeds(sections: list[Section], seeds: int) -> list[Section]:
    """The sections with another number of seeds, those that have one."""
    return [replace(s, values={**s.values, "seeds": seeds}) if "seeds" in s.declared else s for s in sections]


def add_seeds(
    design: Design, limit: int, *, train: Callable[[list[Run]], Results | None], say: Callable[[str], object]
) -> tuple[int, list[Results]]:
    """Train the runs of a design with more and more seeds. Returns how many it takes, and the Results of each look.

    limit: how many there are at most. train: Runs -> Results, or None where they are not to be had, which ends it. say:
    called after each look with what is settled and what is open.
    """
    looked: list[Results] = []
    for seeds in list_looks(limit):
        design = replace(design, seeds=seeds)
        results = train(design.all_runs())
        if results is None:
            break
        looked.append(results)
        verdicts = check_all(results, design)
        say(describe_look(verdicts, seeds, limit))
        if all(verdict.needed is None for verdict in verdicts):
            break
    return design.seeds, looked


def describe_look(verdicts: Sequence[Verdict], seeds: int, limit: int) -> str:
    """What a number of seeds settles and what it leaves open, in a line."""
    opened = [f"{v.id} ({needed(v.needed)})" for v in verdicts if v.needed is not None]
    settled = [verdict.id for verdict in verdicts if verdict.verdict != INCONCLUSIVE]
    beyond = [v.id for v in verdicts if v.verdict == INCONCLUSIVE and v.needed is None]
    said = [f"{join(settled)} settled"] if settled else []
    said += [f"{join(opened)} open"] if opened else []
    said += [f"{join(beyond)} not to be settled by seeds"] if beyond else []
    then = f"; {limit} are the limit" if seeds == limit else f"; adding {min(STEP, limit - seeds)}"
    return f"{count(seeds, 'seed')}: {', '.join(said)}{then if opened else ''}"
