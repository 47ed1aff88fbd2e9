"""The processes that sections' notebooks run in: forks of one that has imported what they all need.

Importing torch, pandas and seaborn takes longer than most sections do with their runs in the store. So one process,
multiprocessing's fork server, imports them once, while the driver is still planning, and each kernel is a fork of it.
A fork is a kernel like any other: ipykernel in a session and a process group of its own, that ends with the driver.
Where a process cannot be forked safely (macOS, Windows), kernels are started by themselves.

A kernel is of this very Python, and has nobody's settings: its environment is lrlib.report.surroundings', and what no
environment settles is settled here.
"""

import multiprocessing
import os
import signal
import sys
import threading
from multiprocessing import forkserver
from typing import Any

from jupyter_client.connect import KernelConnectionInfo
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from jupyter_client.provisioning import LocalProvisioner
from traitlets import Dict, Unicode
from traitlets.config import Config

from lrlib.project import project_folder
from lrlib.report.surroundings import import_dask

# What sections use to read their results and to draw them; Dask and torchvision are for those that train.
SHARED = (
    "lrlib.report.display",
    "lrlib.runs.trainer",
    "lrlib.study.claims",
    "lrlib.study.figures",
    "ipykernel.kernelapp",
)
# A fork has the switches of the driver's Python: -OO leaves out docstrings, -X dev shows warnings.
CAN_FORK = sys.platform == "linux" and not (sys.flags.optimize or sys.flags.dev_mode or sys.flags.bytes_warning)
# What a kernel that is started by itself is told to run; the folder that holds lrlib stands in place of FOLDER.
START = "import sys; sys.path.insert(0, FOLDER); from lrlib.report.kernels import be_kernel; be_kernel(sys.argv[1:])"
# Of figures that a section shows plainly; the same bytes each time.
INLINE = {"figure_formats": {"svg"}, "print_figure_kwargs": {"bbox_inches": "tight", "metadata": {"Date": None}}}


def prepare_kernels() -> None:
    """Begin to import what kernels share, in a process beside this one, with the environment that this one has now."""
    if CAN_FORK:
        _context().set_forkserver_preload(list(SHARED))
        forkserver.ensure_running()


class SectionKernelManager(AsyncKernelManager):
    """Starts kernels of this very interpreter, whatever kernelspecs a user has installed."""

    environment = Dict(config=True)
    folder = Unicode(config=True)

    @property
    def kernel_spec(self) -> KernelSpec:
        # The environment could name another provisioner; the command is format_kernel_cmd's.
        provisioner = {"kernel_provisioner": {"provisioner_name": "local-provisioner"}}
        return KernelSpec(display_name="Python 3", language="python", metadata=provisioner)

    def format_kernel_cmd(self, extra_arguments: list[str] | None = None) -> list[str]:
        start = START.replace("FOLDER", repr(str(project_folder())))
        return [sys.executable, "-c", start, "-f", self.connection_file, *(extra_arguments or [])]

    async def start_kernel(self, **settings: Any) -> None:  # type: ignore[override]
        await super().start_kernel(**settings, env=self.environment, cwd=self.folder)

    async def _async_pre_start_kernel(self, **settings: Any) -> Any:
        if CAN_FORK and self.provisioner is None:
            self.provisioner = ForkProvisioner(kernel_id=self.kernel_id, kernel_spec=self.kernel_spec, parent=self)
        return await super()._async_pre_start_kernel(**settings)


class ForkProvisioner(LocalProvisioner):
    """jupyter_client's provisioner of a local process, of a fork instead of a new one."""

    async def launch_kernel(self, cmd: list[str], **settings: Any) -> KernelConnectionInfo:
        kernel = Fork(cmd[cmd.index("-f") :], dict(settings["env"]), str(settings.get("cwd") or os.getcwd()))
        self.process = kernel  # type: ignore[assignment]
        self.pid = self.pgid = kernel.pid
        self.cwd = settings.get("cwd")
        return self.connection_info


class Fork:
    """A forked kernel, with what jupyter_client asks of subprocess.Popen."""

    stdin = stdout = stderr = None

    def __init__(self, arguments: list[str], environment: dict[str, str], folder: str) -> None:
        self.process = _context().Process(target=run_kernel, args=(arguments, environment, folder))
        self.process.start()
        self.pid: int = self.process.pid  # type: ignore[assignment]

    def poll(self) -> int | None:
        return self.process.exitcode

    def wait(self) -> int | None:
        self.process.join()
        return self.process.exitcode

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        self.process.kill()

    def terminate(self) -> None:
        self.process.terminate()


def run_kernel(arguments: list[str], environment: dict[str, str], folder: str) -> None:
    """Be a kernel until told to end, in a process that was forked. arguments: ipykernel_launcher's."""
    os.setsid()  # as jupyter_client starts a kernel: the terminal's Ctrl-C is the driver's
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.argv = ["ipykernel_launcher", *arguments]
    threading.Thread(target=_end_with_driver, daemon=True).start()
    be_kernel(arguments)


def be_kernel(arguments: list[str]) -> None:
    """Be a kernel until told to end, with nobody's settings. arguments: ipykernel_launcher's."""
    import_dask()
    import matplotlib
    from ipykernel.kernelapp import IPKernelApp

    matplotlib.rcdefaults()  # a matplotlibrc in the working folder comes before all others
    matplotlib.rcParams["svg.hashsalt"] = "lrlib"

    class SectionKernel(IPKernelApp):
        """IPython's kernel without a machine's configuration and startup files; a user's are not found."""

        def load_config_file(self, *_: Any, **__: Any) -> None:
            pass

        def _run_startup_files(self) -> None:
            pass

    SectionKernel.launch_instance(arguments, config=Config({"InlineBackend": INLINE}))


def _end_with_driver() -> None:
    """End this process when the one that asked for it ends, in whatever way that does; the fork server then ends too."""
    driver = multiprocessing.parent_process()
    assert driver is not None  # which forked this one
    driver.join()
    os._exit(1)


def _context() -> Any:
    return multiprocessing.get_context("forkserver")
