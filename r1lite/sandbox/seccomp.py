"""The system calls that no program of the sandbox may make, as a filter for the kernel.

Everything else is allowed: files, memory and processes are bounded by namespaces and limits. What
is refused would reach beyond those: other processes, the network, new namespaces, the kernel.
"""

import errno
import tempfile
from functools import cache

from ..records import needs

_REFUSED = """
ptrace process_vm_readv process_vm_writev kcmp pidfd_getfd process_madvise
mount umount2 pivot_root chroot setns unshare mount_setattr move_mount fsopen fsconfig fsmount
open_tree name_to_handle_at open_by_handle_at
socket socketpair connect bind listen accept accept4
bpf perf_event_open userfaultfd io_uring_setup io_uring_enter io_uring_register
keyctl add_key request_key memfd_create memfd_secret
shmget shmat shmctl msgget msgsnd msgrcv semget semop mq_open
setpriority ioprio_set sched_setscheduler sched_setattr sched_setparam
init_module finit_module delete_module kexec_load kexec_file_load reboot swapon swapoff acct
quotactl settimeofday clock_settime adjtimex sethostname setdomainname iopl ioperm syslog
"""
OTHERS = ("prlimit64", "sched_setaffinity")  # allowed for a process itself, whose number is 0
NEW_NAMESPACES = 0x7E020000  # the CLONE_NEW* flags


@cache
def seccomp_filter() -> bytes:
    """The filter as BPF instructions of 8 bytes. Raises UserError without pyseccomp or libseccomp.

    A refused call returns EPERM; clone3 returns ENOSYS, so that libc falls back to clone, whose
    flags the filter can read.
    """
    with needs("the sandbox", "pyseccomp", "install libseccomp2 of your system"):
        import pyseccomp
    found = pyseccomp.SyscallFilter(pyseccomp.ALLOW)
    refuse = pyseccomp.ERRNO(errno.EPERM)
    for name in _REFUSED.split():
        _add(pyseccomp, found, refuse, name)
    for name in OTHERS:
        _add(pyseccomp, found, refuse, name, pyseccomp.Arg(0, pyseccomp.NE, 0))
    for bit in (1 << n for n in range(32) if NEW_NAMESPACES >> n & 1):
        flag = pyseccomp.Arg(0, pyseccomp.MASKED_EQ, bit, bit)
        _add(pyseccomp, found, refuse, "clone", flag)
    _add(pyseccomp, found, pyseccomp.ERRNO(errno.ENOSYS), "clone3")
    with tempfile.TemporaryFile() as file:
        found.export_bpf(file)
        file.seek(0)
        return file.read()


def _add(pyseccomp, found, action, name: str, *arguments) -> None:
    """A rule, unless libseccomp does not know the call: then this kernel hardly does."""
    try:
        number = pyseccomp.resolve_syscall(pyseccomp.Arch.NATIVE, name)
    except (RuntimeError, ValueError, OSError):
        return
    if number >= 0:
        found.add_rule(action, name, *arguments)
