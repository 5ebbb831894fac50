"""Running programs that a model wrote: hostile until shown otherwise.

What a jail promises (`python -m r1lite sandbox --attack` tries to break each promise):

files        read: the interpreter with its standard library (no installed packages), the compiler,
             the system's libraries (/lib, /usr/lib, /usr/include); written: a folder of its own,
             which lives in memory and is emptied after every program
devices      /dev/null, /dev/zero and the random ones; a Python program may also open the standard
             files by their names (/dev/stdin), a C++ program has no such files
network      none, not even this machine's own; no socket of any kind can be made, also no pair of
             them: threads work in a program, asyncio and multiprocessing.Pipe do not
processes    none is left when a program's first process has ended or its time is up; those
             outside can be neither seen nor signalled
secrets      no variable of your environment, no open file; in memory nothing of earlier programs
             (source, input, output), and of its own tests only the one that it is run on
bounds       time, memory, output, processes and size of files (Limits); the compiler has its own
judging      right answers never enter the jail

What it does not promise: that the kernel has no holes (programs share yours), that two programs
could not tell by timing that the other runs, and anything at all with jail="unsafe".
"""

from .jail import JAILS, no_compiler
from .pool import Sandbox
from .program import Limits, Outcome, Program, Run
