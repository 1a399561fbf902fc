"""What runs in the host processes of the journeys: programs that record, and put down what they have finished.

``python host_programs.py NAME ARGUMENT...`` runs one. Where records go is said by the environment, as for any host.
"""

from __future__ import annotations

import mmap
import multiprocessing
import os
import random
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import otelsync

BEGUN, SPAN, LOG = b"bsl"
"""What an entry of a tally says: a stage has begun, a span is finished, a log record is finished."""
ENTRY = 16
"""Bytes: a span id, or the number of a log record; then one of the above, written last; then nothing."""
SAID = "host.said"
TALLY = 64 * 1024 * 1024
"""Bytes of a tally, most of them a hole."""
LONGEST_LIFE = 0.03
"""Seconds after its first record in which a process that is to be killed is left alive."""


def main() -> None:
    """Run the program that the command line names."""
    name, *arguments = sys.argv[1:]
    programs: dict[str, Callable[..., None]] = {
        "obey": obey,
        "die_at_random": die_at_random,
        "record_until_killed": record_until_killed,
        "fork_children": fork_children,
        "fork_processes": fork_processes,
        "fork_while_recording": fork_while_recording,
    }
    programs[name](*arguments)


def obey() -> None:
    """Configure, then do what each line of standard input says, and answer with a line; end with the input."""
    otelsync.configure(log_stream=sys.stderr, log_format="json", log_level="WARNING", service_name="host")
    commands: dict[str, Callable[..., object]] = {
        "record": _record,
        "flush": lambda seconds: otelsync.flush(float(seconds)),
        "limit_files": _limit_files,
    }
    print("ready", flush=True)
    for line in sys.stdin:
        name, *arguments = line.split()
        print(commands[name](*arguments), flush=True)


def _record(count: str) -> int:
    """Record `count` spans below one more, with a log record for every thousand of them; resident bytes after it."""
    log = otelsync.get_logger("host")
    with otelsync.pipeline("journey"):
        for number in range(int(count)):
            with otelsync.pull_request(number, state="open"):
                if number % 1000 == 0:
                    log.warning(SAID, number=number)
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def _limit_files(size: str) -> str:
    """Let no file grow beyond `size` bytes; 0 ends the bound."""
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(size) or hard, hard))
    return "limited"


def record_until_killed(tally: str, number: str = "0") -> None:
    """Record nested stages, spans and log records as fast as can be, and put down each after it is finished."""
    otelsync.configure(log_stream=Path(os.devnull).open("wb"), log_format="json", service_name="host")  # noqa: SIM115
    log = otelsync.get_logger("host")
    last = int(number) + 1 << 32
    entries = _mapped(Path(tally))
    end = 0

    def put(what: int, number: str) -> None:
        nonlocal end
        entries[end : end + 8] = bytes.fromhex(number)
        entries[end + 8] = what
        end += ENTRY

    while True:
        with otelsync.pipeline("killed") as run:
            put(BEGUN, run.span_id)
            with otelsync.repo("acme/api") as repo:
                put(BEGUN, repo.span_id)
                for _ in range(20):
                    last += 1
                    with otelsync.pull_request(last, state="open") as pr:
                        pr.set(checked=2 * last)
                    put(SPAN, pr.span_id)
                    log.info(SAID, number=last, checked=2 * last)
                    put(LOG, f"{last:016x}")
                log.info("host.padded", padding="x" * 20_000)  # the sooner comes the next file
            put(SPAN, repo.span_id)
        put(SPAN, run.span_id)


def _mapped(path: Path) -> mmap.mmap:
    """A new file to be written to without a system call, at each of which another thread would get its turn."""
    with path.open("xb+") as file:
        file.truncate(TALLY)
        return mmap.mmap(file.fileno(), TALLY)


def die_at_random(tallies: str, seed: str, kills: str) -> None:
    """Have `kills` recording processes, two at a time, each killed at a random moment of its recording."""
    # What follows is loaded here once, and not in each child.
    import otelsync.otlp.exporter
    import otelsync.shipping.shipper_thread
    import otelsync.store.writing

    otelsync.configure(ship="off")
    otelsync.shutdown()
    dice = random.Random(int(seed))
    alive: list[tuple[int, Path]] = []
    for number in range(int(kills)):
        tally = Path(tallies) / f"{seed}-{number}"
        child = os.fork()
        if child == 0:
            record_until_killed(str(tally), str(int(seed) << 16 | number))
        alive.append((child, tally))
        if len(alive) == 2:
            _kill(*alive.pop(dice.randrange(2)), dice.uniform(0.0, LONGEST_LIFE))
    for child, tally in alive:
        _kill(child, tally, dice.uniform(0.0, LONGEST_LIFE))
    print("all dead", flush=True)


def _kill(child: int, tally: Path, after: float) -> None:
    """Kill a child `after` seconds, once it has begun to record."""
    while not _has_begun(tally):
        if os.waitpid(child, os.WNOHANG) != (0, 0):
            raise AssertionError("a child ended by itself")
        time.sleep(0.001)
    time.sleep(after)
    os.kill(child, signal.SIGKILL)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL


def _has_begun(tally: Path) -> bool:
    try:
        with tally.open("rb") as file:
            return any(file.read(ENTRY))
    except FileNotFoundError:
        return False


def _configure_quietly() -> None:
    otelsync.configure(log_stream=sys.stderr, log_format="json", log_level="WARNING", service_name="host")


def _record_spans(count: int) -> None:
    random.seed(1)
    for number in range(count):
        with otelsync.pull_request(number, state="open"):
            pass


def _fork(count: int) -> int:
    """A child that records `count` spans and ends in ``os._exit``."""
    child = os.fork()
    if child == 0:
        try:
            _record_spans(count)
        except BaseException:
            os._exit(1)
        os._exit(0)
    return child


def _join(children: list[int]) -> None:
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * len(children)


def fork_children(children: str, spans: str) -> None:
    """Fork `children` that record `spans` each, from a parent that records too."""
    _configure_quietly()
    with otelsync.pipeline("parent"):
        _record_spans(10)
        _join([_fork(int(spans)) for _ in range(int(children))])
        _record_spans(10)
    print(otelsync.shutdown(60), flush=True)


def fork_processes(children: str, spans: str) -> None:
    """The same with multiprocessing's processes."""
    _configure_quietly()
    context = multiprocessing.get_context("fork")
    with otelsync.pipeline("parent"):
        processes = [context.Process(target=_record_spans, args=(int(spans),)) for _ in range(int(children))]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
            assert process.exitcode == 0
    print(otelsync.shutdown(60), flush=True)


def fork_while_recording(children: str, spans: str) -> None:
    """Fork while two other threads record; say how many spans these have recorded."""
    _configure_quietly()
    done = threading.Event()
    counts: list[int] = []

    def record_on() -> None:
        count = 0
        while not done.is_set():
            with otelsync.stage("beside"):
                count += 1
        counts.append(count)

    threads = [threading.Thread(target=record_on) for _ in range(2)]
    for thread in threads:
        thread.start()
    forked = []
    for _ in range(int(children)):
        forked.append(_fork(int(spans)))
        if len(forked) == 4:
            _join([forked.pop(0)])
    _join(forked)
    done.set()
    for thread in threads:
        thread.join()
    print(otelsync.shutdown(60), sum(counts), flush=True)


if __name__ == "__main__":
    main()
