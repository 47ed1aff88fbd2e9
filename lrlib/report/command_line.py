"""The command line: `lrlib report`, `section`, `publish`, `store`, which the Makefile calls."""

import argparse
import functools
import shlex
import signal
import sys
import warnings

from lrlib.errors import LrlibError
from lrlib.project import store_folder
from lrlib.report.documents import ParameterError, find_document, list_documents
from lrlib.report.sections import FLAGS, find_sections, parse_assignments, write_command


def main(arguments=None) -> int:
    """Run a command. Returns 0, 1 for an error, 2 for bad input, 130 for Ctrl-C, 143 for SIGTERM."""
    stopped_by = _hear_signals()
    warnings.showwarning = lambda message, *_: print(f"warning: {message}", file=sys.stderr)
    options = _build_parser().parse_args(arguments)
    try:
        return options.act(options) or 0
    except LrlibError as err:
        print(f"lrlib: {err}", file=sys.stderr)
        return err.status
    except OSError as err:
        what = f"cannot read or write {err.filename or 'a file'} ({err.strerror or err})"
        print(f"lrlib: {what}; free space, or permit reading and writing there", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("lrlib: stopped; finished epochs are cached, and the same command resumes from them", file=sys.stderr)
        return 128 + (stopped_by[0] if stopped_by else signal.SIGINT)


def _hear_signals():
    """Have SIGTERM and a closed terminal end a command as Ctrl-C does. Returns the list that the first goes into."""
    stopped_by = []

    def stop(number, frame):
        stopped_by.append(number)
        if len(stopped_by) == 1:
            raise KeyboardInterrupt

    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        if number and signal.getsignal(number) == signal.SIG_DFL:  # nohup's is to go on
            signal.signal(number, stop)
    return stopped_by


def _build_parser():
    parser = argparse.ArgumentParser(prog="lrlib", description="Range tests, and the documents about them.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", dest="command")
    report = commands.add_parser("report", help="train, execute the section notebooks, and write page and PDF")
    publish = commands.add_parser("publish", help="the same, then copy them to report/ and update the README")
    section = commands.add_parser("section", help="make one section, in report/build/sections")
    store = commands.add_parser("store", help="list or prune the cache of trained epochs")
    for command in (report, publish, section):
        command.set_defaults(act=_make)
        command.format_help = functools.partial(_help_with_parameters, command)
        for flag in FLAGS:
            option = f"--{flag.replace('_', '-')}"
            command.add_argument(option, metavar="VALUE", help=f"{flag} of all sections; see below")
        command.add_argument("--params", metavar="'NAME=VALUE ...'", default="", help="further parameters")
        command.add_argument(
            "--results", metavar="FILE", default="", help="published, or a file of results to use instead of training"
        )
        command.add_argument("--quick", action="store_true", help="a few epochs on the sample: a preview")
    for command in (report, publish):
        command.add_argument("name", nargs="?", default="report", help="report (default) or study")
    section.add_argument("name", help="number or file name of a section, such as 2-2; study/2 is one of the study's")
    store.set_defaults(act=_store)
    store.add_argument("what", choices=["list", "prune"], nargs="?", default="list")
    store.add_argument("--dry-run", action="store_true", help="prune: only list what would be removed")
    return parser


def _help_with_parameters(command):
    """A command's help, with the parameters that the notebooks declare."""
    lines = [type(command).format_help(command), "sections and their parameters:"]
    try:
        for document in list_documents():
            for section in find_sections(document):
                lines.append(f"  {document.name}/{section.name}  ({section.path.name})")
                declared = section.declared.values()
                lines += [f"      {name}: {kind} = {default}  {about}" for name, kind, default, about in declared]
    except LrlibError as err:
        lines.append(f"  {err}")
    return "\n".join(lines) + "\n"


def _make(options):
    from lrlib.report.driver import make_document, say
    from lrlib.report.publish import list_changes, read_outcome

    name, _, section = options.name.rpartition("/") if options.command == "section" else (options.name, "", "")
    document = find_document(name or "report")
    before = read_outcome(document.published)
    paths, outcome = make_document(
        document,
        _read_texts(options),
        command=_describe(options),
        section=section,
        quick=options.quick,
        results=options.results,
        publish=options.command == "publish",
    )
    for line in [] if section else [*list_changes(before, outcome), *outcome.summarize()]:
        say(line)
    print(*paths, sep="\n")


def _store(options):
    from lrlib.report.stored import list_store, prune_store
    from lrlib.runs import published
    from lrlib.runs.store import Store

    paths = [document.results for document in list_documents() if document.results.exists()]
    store, runs = Store(store_folder()), [run for path in paths for run in published.read(path).runs]
    print(list_store(store, runs) if options.what == "list" else prune_store(store, runs, options.dry_run))


def _read_texts(options):
    flags = {flag: value for flag in FLAGS if (value := getattr(options, flag)) is not None}
    params = parse_assignments(options.params)
    for name in flags.keys() & params.keys():
        raise ParameterError(f"{name} is given twice: {flags[name]}, and {params[name]} in PARAMS; give it once")
    return flags | params


def _describe(options):
    """The make command that is being run."""
    words = ["make", options.name if options.command == "report" else options.command]
    if options.command == "section" or (options.command, options.name) == ("publish", "study"):
        words.append(f"NAME={shlex.quote(options.name)}")
    words += ["QUICK=1"] if options.quick else []
    words += [f"RESULTS={shlex.quote(options.results)}"] if options.results else []
    return write_command(words, _read_texts(options))
