"""The processes that sections' notebooks run in: forks of one that has imported what they all need.

Importing torch, pandas and seaborn takes longer than most sections do with their runs in the store. So one process,
multiprocessing's fork server, imports them once, while the driver is still planning, and each kernel is a fork of it.
A fork is a kernel like any other: ipykernel in a session and a process group of its own, that ends with the driver.
Where a process cannot be forked safely (macOS, Windows), kernels are started by themselves.
"""

import multiprocessing
import os
import signal
import sys
import threading
from multiprocessing import forkserver
from multiprocessing.context import BaseContext
from typing import Any

from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from jupyter_client.provisioning import LocalProvisioner

# What sections use to read their results and to draw them; Dask and torchvision are for those that train.
SHARED = (
    "lrlib.report.display",
    "lrlib.runs.trainer",
    "lrlib.study.claims",
    "lrlib.study.figures",
    "ipykernel.kernelapp",
)
CAN_FORK = sys.platform == "linux"


def prepare_kernels() -> None:
    """Begin to import what kernels share, in a process beside this one, with the environment that this one has now."""
    if CAN_FORK:
        _context().set_forkserver_preload(list(SHARED))
        forkserver.ensure_running()


class SectionKernelManager(AsyncKernelManager):
    """Starts kernels of this very interpreter, whatever kernelspecs a user has installed."""

    @property
    def kernel_spec(self) -> KernelSpec:
        command = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        return KernelSpec(argv=command, display_name="Python 3", language="python")

    async def _async_pre_start_kernel(self, **settings: Any) -> Any:
        if CAN_FORK and self.provisioner is None:
            self.provisioner = ForkProvisioner(kernel_id=self.kernel_id, kernel_spec=self.kernel_spec, parent=self)
        return await super()._async_pre_start_kernel(**settings)


class ForkProvisioner(LocalProvisioner):
    """jupyter_client's provisioner of a local process, of a fork instead of a new one."""

    async def launch_kernel(self, cmd: list[str], **settings: Any) -> dict[str, Any]:
        arguments = cmd[cmd.index("ipykernel_launcher") + 1 :]
        self.process = Fork(arguments, dict(settings["env"]), str(settings.get("cwd") or os.getcwd()))
        self.pid = self.pgid = self.process.pid
        self.cwd = settings.get("cwd")
        return self.connection_info


class Fork:
    """A forked kernel, with what jupyter_client asks of subprocess.Popen."""

    stdin = stdout = stderr = None

    def __init__(self, arguments: list[str], environment: dict[str, str], folder: str) -> None:
        self.process = _context().Process(target=run_kernel, args=(arguments, environment, folder))
        self.process.start()
        self.pid = self.process.pid

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
    """Be a kernel until told to end. arguments: ipykernel_launcher's."""
    from ipykernel.kernelapp import IPKernelApp

    os.setsid()  # as jupyter_client starts a kernel: the terminal's Ctrl-C is the driver's
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.argv = ["ipykernel_launcher", *arguments]
    threading.Thread(target=_end_with_driver, daemon=True).start()
    IPKernelApp.launch_instance(arguments)


def _end_with_driver() -> None:
    """End this process when the one that asked for it ends, in whatever way that does; the fork server then ends too."""
    multiprocessing.parent_process().join()
    os._exit(1)


def _context() -> BaseContext:
    return multiprocessing.get_context("forkserver")
