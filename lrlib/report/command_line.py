"""The command line: `lrlib report`, `section`, `publish`, `store`; what the Makefile calls.

What a command needs is imported when it runs: the driver loads torch, Dask and papermill, while kernels are prepared.
"""

import argparse
import functools
import shlex
import signal
import sys
import threading
import warnings

from lrlib.errors import LrlibError
from lrlib.project import build_folder, store_folder
from lrlib.report.kernels import prepare_kernels
from lrlib.report.parameters import ParameterError, parse_assignments
from lrlib.report.sections import find_sections
from lrlib.report.surroundings import check_file_limit

# Flags of the whole report, and the parameter that each one gives.
FLAGS = {
    "seeds": "how many seeds, from 0 on, or auto: as many as it takes to settle the claims",
    "max_seeds": "up to how many seeds auto goes, 30 by default",
    "epochs": "epochs of each run, the range tests apart",
    "batch_size": "images in a batch",
    "dataset": "mnist, fashion_mnist, sample, or auto: MNIST where it can be had, else the sample",
    "backend": "what trains: torch, cuda or colossalai",
    "processes": "how many share each batch, with colossalai",
}


def main(arguments=None):
    """Run a command. Returns the exit status: 0, 1 for what went wrong, 2 for bad input, 130 for Ctrl-C,
    143 for SIGTERM, 129 for a terminal that was closed.
    """
    stopped_by = _hear_signals()
    warnings.showwarning = lambda message, *_: print(f"warning: {message}", file=sys.stderr)
    parser = _build_parser()
    options = parser.parse_args(arguments)
    try:
        return options.act(options)
    except LrlibError as err:
        print(f"lrlib: {err}", file=sys.stderr)
        return err.status
    except OSError as err:
        print(f"lrlib: {err.filename or 'a file'} cannot be written or read ({err.strerror or err})", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("lrlib: stopped; finished epochs are stored, and the same command goes on from them", file=sys.stderr)
        return 128 + (stopped_by[0] if stopped_by else signal.SIGINT)


def _hear_signals():
    """Have SIGTERM and a closed terminal end a command as Ctrl-C does, so that nothing is left behind.

    Returns the list into which the signal goes that did. A second one is not heard: what is made is being put away.
    """
    stopped_by = []

    def stop(number, frame):
        if not stopped_by:
            stopped_by.append(number)
            interrupt = signal.getsignal(signal.SIGINT)  # the engine's own while epochs are computed
            (interrupt if callable(interrupt) else signal.default_int_handler)(signal.SIGINT, frame)

    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        if (
            number
            and threading.current_thread() is threading.main_thread()
            and signal.getsignal(number) == signal.SIG_DFL  # nohup's is to go on
        ):
            signal.signal(number, stop)
    return stopped_by


def _build_parser():
    parser = argparse.ArgumentParser(
        prog="lrlib", description="Make the report on the learning-rate range test, or a part of it."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    report = commands.add_parser("report", help="the whole report, into report/build")
    report.set_defaults(act=_report)
    publish = commands.add_parser("publish", help="the whole report, and copy it to report/")
    publish.set_defaults(act=_publish)
    section = commands.add_parser("section", help="one section, into report/build/sections")
    section.add_argument("name", metavar="NAME", help="the section, such as 2-2")
    section.set_defaults(act=_section)
    archive = commands.add_parser("archive", help="pack the made report into report/build/crate.zip, an RO-Crate")
    archive.set_defaults(act=_archive)
    store = commands.add_parser("store", help="list what the store holds, by run and size, or prune it")
    store.set_defaults(act=_store)
    store.add_argument("what", nargs="?", choices=("list", "prune"), default="list")
    store.add_argument("--dry-run", action="store_true", help="with prune: only say what would go")
    commands.add_parser("lab", help="JupyterLab on the notebooks, with its own options", add_help=False)
    commands.add_parser("suggest", help="a learning rate from range tests in CSV files, any tool's", add_help=False)
    for command in (report, publish, section):
        command.formatter_class = _Formatter
        command.format_help = functools.partial(_help_with_parameters, command)
        for flag, text in FLAGS.items():
            command.add_argument(f"--{flag.replace('_', '-')}", metavar="VALUE", help=text)
        command.add_argument(
            "--params",
            metavar="'NAME=VALUE ...'",
            default="",
            help="further parameters, given to each section that has them",
        )
        command.add_argument("--quick", action="store_true", help="a few epochs on the sample, for a look")
    return parser


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """Keeps the list of parameters in lines."""


def _help_with_parameters(command):
    """A command's help, with the parameters that the notebooks declare: they are read where they are asked for."""
    command.epilog = _list_parameters()
    return type(command).format_help(command)


def _list_parameters():
    lines = ["sections and their parameters:"]
    try:
        for section in find_sections():
            lines.append(f"  {section.name}  ({section.path.name})")
            lines += [f"      {p.name}: {p.type} = {p.default}  {p.help}" for p in section.declared.values()]
            lines += [f"      {section.fault}"] if section.fault else []
    except ParameterError as err:
        lines.append(f"  {err}")
    return "\n".join(lines).replace("%", "%%")


def _report(options):
    made = _make_report("report", options)
    _print_made(made, [made.html, made.pdf])
    return 0


def _publish(options):
    from lrlib.report.publish import check_readme, publish_report

    check_readme()
    published, command = [], _command("publish", options)
    made = _make_report("publish", options, then=lambda made: published.extend(publish_report(made, command=command)))
    _print_made(made, published)
    return 0


def _make_report(target, options, then=None):
    check_file_limit()
    texts, command = _texts(options), _command(target, options)
    prepare_kernels()
    from lrlib.report.changes import published_page, read_outcome, tell_changes
    from lrlib.report.driver import make_report

    published, changes = read_outcome(published_page()), []

    def compare(made):
        changes.extend(tell_changes(published, read_outcome(made.html)))
        if then:
            then(made)

    made = make_report(texts, command=command, say=_say, quick=options.quick, then=compare)
    for change in changes:
        _say(change)
    return made


def _section(options):
    check_file_limit()
    texts, command = _texts(options), _command(f"section NAME={options.name}", options)
    prepare_kernels()
    from lrlib.report.driver import make_section

    made = make_section(options.name, texts, command=command, say=_say, quick=options.quick)
    print(made.html)
    return 0


def _store(options):
    from lrlib.report.store_command import list_store, plan_published_runs, prune_store, read_published_command
    from lrlib.runs.store import Store

    command = read_published_command()
    store, runs = Store(store_folder()), plan_published_runs(command)
    if options.what == "list":
        print("\n".join(list_store(store, runs, title=f"the published report ({command})")))
        return 0
    pruned = prune_store(store, runs, dry_run=options.dry_run)
    verb = "would remove" if options.dry_run else "removed"
    print(f"{verb} {pruned.n_removed} files, {pruned.n_bytes / 1e6:,.1f} MB; {pruned.n_spared} are too young to go")
    return 0


def _archive(options):
    from lrlib.report.archive import make_archive

    out = build_folder() / "crate.zip"
    make_archive(build_folder(), out)
    print(out)
    return 0


def _texts(options):
    flags = {flag: value for flag in FLAGS if (value := getattr(options, flag)) is not None}
    params = parse_assignments(options.params)
    for name in flags.keys() & params.keys():
        raise ParameterError(f"{name} is given 2 times, {flags[name]} and, in PARAMS, {params[name]}; give it once")
    return flags | params


def _command(target, options):
    words = ["make", target]
    words += [f"{flag.upper()}={value}" for flag in FLAGS if (value := getattr(options, flag)) is not None]
    words += ["QUICK=1"] if options.quick else []
    words += [f"PARAMS={shlex.quote(options.params)}"] if options.params else []
    return " ".join(words)


def _say(line):
    print(line, file=sys.stderr, flush=True)


def _print_made(made, paths):
    _say(f"made in {made.seconds:.0f} s")
    for row in made.accuracies.itertuples():
        print(f"{row.method + ':':<10} {row.accuracy:.2f} % test accuracy (author: {row.author:.2f} %)")
    for path in paths:
        print(path)
