"""What mpirun, srun and their like tell the processes that they start, of which the study is several that do not talk."""

import os
import re

# Open MPI, MPICH and its relatives, Slurm: processes on this machine ("4(x2)": four on each of two).
HERE = ("OMPI_COMM_WORLD_LOCAL_SIZE", "MPI_LOCALNRANKS", "SLURM_STEP_TASKS_PER_NODE")
OF_LAUNCHERS = ("OMPI_", "PMIX_", "PMI_", "MPI_LOCAL", "PRTE_", "HYDRA_", "SLURM_")


def alone(environment):
    """Without what would make a finetune believe that it is one of several."""
    return {name: value for name, value in environment.items() if not name.startswith(OF_LAUNCHERS)}


def _cores_of(process):
    try:
        return len(os.sched_getaffinity(process))
    except (AttributeError, OSError):  # not Linux, or somebody else's process
        return os.cpu_count() or 1


def cores(environment=os.environ, cores_of=_cores_of):
    """This process's share. A launcher binds a process to cores of its own, or to some that several share, or not at
    all; what there is to share is what the launcher itself may use."""
    here = [int(re.match(r"\d+", environment[name])[0]) for name in HERE if name in environment]
    if not here or here[0] < 2:
        return cores_of(0)
    return min(cores_of(0), max(1, cores_of(os.getppid()) // here[0]))
