"""Who runs which cell, where several processes, on any number of machines, work in one folder.

A claim is a file, claims/KEY, that is locked (flock) by the process that runs the cell and by its finetune. The system
lets go when both have ended, however they end, so that nothing is left to clean up and no clock decides who is alive.
On NFS the server does the same, for a machine that is gone after its lease (90 seconds as a rule). The text in the file
says who holds it, for people, and for noticing locks that do not reach from one machine to another.
"""

import contextlib
import errno
import fcntl
import os
import socket
import time


class Lost(Exception):
    """Another process took a claim that was locked."""


def lock(file, how):
    """Whether it was to be had; only where `how` includes LOCK_NB it may not be."""
    try:
        fcntl.flock(file, how)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES, errno.ESTALE):  # the last: removed meanwhile, on NFS
            return False
        raise OSError(error.errno, f"no file locks here ({error.strerror}), which the study needs", file.name) from None
    return True


@contextlib.contextmanager
def alone(path, waiting):
    """One process at a time. `waiting` is said where another takes long."""
    begin = time.monotonic()
    with open(path, "a") as file:
        while not lock(file, fcntl.LOCK_EX | fcntl.LOCK_NB):
            time.sleep(0.1)
            if begin and time.monotonic() - begin > 2:
                print(waiting, flush=True)
                begin = None
        yield


class Claim:
    def __init__(self, file, about):
        self.file = file
        self.text = f"{socket.gethostname()} {os.getpid()} {about}\n"
        file.truncate(0)
        file.write(self.text)
        file.flush()

    def check(self):
        with contextlib.suppress(FileNotFoundError), open(self.file.name) as file:
            if (found := file.read()) != self.text:
                raise Lost(
                    f"{self.file.name} was locked here, and another process took it: {found.strip()}. File locks must hold "
                    "between machines: of NFS take version 4, of Lustre the mount option flock"
                )

    def release(self, done):
        """A claim goes with the result; that of a cell that was stopped stays as an unlocked file. So who has a lock
        on a file that is no longer there finds the cell in the results."""
        if done:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.file.name)
        self.file.close()


class Claims:
    def __init__(self, folder):
        self.folder = folder
        folder.mkdir(exist_ok=True)

    def take(self, key, about):
        """The claim, or None where another process has it. The results are to be read after that: the cell may have
        been finished a moment ago."""
        file = open(self.folder / key, "a")
        if lock(file, fcntl.LOCK_EX | fcntl.LOCK_NB):
            return Claim(file, about)
        file.close()
        return None

    def count(self):
        """Cells at work now, in all processes."""
        held = 0
        for path in self.folder.iterdir():
            with contextlib.suppress(FileNotFoundError), open(path) as file:
                held += not lock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return held
