"""Processes pinned to a core: started, looked at through /proc, and stopped by their pid."""

import os
import pathlib
import signal
import socket
import subprocess
import time

TICK_US = 1_000_000 // os.sysconf("SC_CLK_TCK")
# Below the range from which the kernel takes the ports of outgoing connections.
_ports = iter(range(21_700, 21_800))


class Failed(Exception):
    """The run can't go on; the message says why."""


def free_address():
    """An address on loopback on which nobody listens."""
    for port in _ports:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return f"127.0.0.1:{port}"
    raise Failed("no free port from 21700 to 21799")


def wait_until(what, condition, seconds=20):
    """Polls until the condition holds, and fails if it doesn't in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise Failed(f"waited {seconds} s in vain: {what}")
        time.sleep(0.02)


def pinned(core, command):
    """The command, bound to a core; if the harness is killed outright, the kernel ends it too."""
    prefix = ["setpriv", "--pdeathsig", "TERM", "taskset", "-c", core]
    return [str(word) for word in (*prefix, *command)]


def core_busy_us(core):
    """Time that a core has worked for anybody, and that the hypervisor took from it."""
    for line in pathlib.Path("/proc/stat").read_text().splitlines():
        name, *fields = line.split()
        if name == f"cpu{core}":
            user, nice, system, _idle, _iowait, irq, softirq, steal, *_ = map(int, fields)
            return (user + nice + system + irq + softirq + steal) * TICK_US
    raise Failed(f"/proc/stat knows no core {core}")


class Process:
    """One program and its children."""

    def __init__(self, name, core, command, state, env=None):
        self.name = name
        self.log = pathlib.Path(state) / f"{name}.log"
        with self.log.open("wb") as log:
            self._child = subprocess.Popen(
                pinned(core, command),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **(env or {})},
            )
        self.pid = self._child.pid

    def check(self):
        """Fails, with the end of its output, if it is gone."""
        if self._child.poll() is not None:
            tail = self.log.read_text(errors="replace")[-2000:]
            raise Failed(f"{self.name} ended with {self._child.returncode}:\n{tail}")

    def wait_listening(self, address):
        """Until the address accepts connections."""
        host, port = address.split(":")

        def accepts():
            self.check()
            with socket.socket() as probe:
                return probe.connect_ex((host, int(port))) == 0

        wait_until(f"{self.name} to listen on {address}", accepts)

    def tree(self):
        """Its pid and those of all its descendants."""
        parents = {}
        for entry in pathlib.Path("/proc").iterdir():
            if entry.name.isdigit():
                fields = _stat(int(entry.name))
                if fields:
                    parents.setdefault(int(fields[1]), []).append(int(entry.name))
        pids = [self.pid]
        for pid in pids:
            pids.extend(parents.get(pid, []))
        return pids

    def cpu_us(self):
        """CPU time used so far, user and system, by it and its children."""
        self.check()
        stats = [_stat(pid) for pid in self.tree()]
        return sum(int(f[11]) + int(f[12]) for f in stats if f) * TICK_US

    def memory_kib(self):
        """VmRSS and RssAnon."""
        self.check()
        lines = pathlib.Path(f"/proc/{self.pid}/status").read_text().splitlines()
        fields = dict(line.split(":", 1) for line in lines if ":" in line)
        return {key: int(fields[key].split()[0]) for key in ("VmRSS", "RssAnon")}

    def stop(self):
        """SIGTERM, and after five seconds SIGKILL; children too."""
        pids = self.tree() if self._child.poll() is None else []
        for number, seconds in ((signal.SIGTERM, 5), (signal.SIGKILL, 5)):
            if self._child.poll() is None:
                self._child.send_signal(number)
                try:
                    self._child.wait(seconds)
                except subprocess.TimeoutExpired:
                    continue
        for pid in pids[1:]:
            # Only what is still the orphan that was seen above: a pid may have been used again.
            fields = _stat(pid)
            if fields and int(fields[1]) == 1:
                os.kill(pid, signal.SIGKILL)


def _stat(pid):
    """The fields of /proc/PID/stat from the state on; None if it is gone."""
    try:
        text = pathlib.Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    return text.rpartition(")")[2].split()


class Group:
    """Processes that are stopped together, the last first, also when something fails."""

    def __init__(self, state):
        self.state = state
        self._members = []

    def start(self, name, core, command, env=None):
        """Starts one more."""
        process = Process(name, core, command, self.state, env)
        self._members.append(process)
        return process

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in reversed(self._members):
            process.stop()
