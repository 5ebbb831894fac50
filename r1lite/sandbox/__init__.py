"""Running programs that a model wrote: hostile until shown otherwise.

What a jail promises (`python -m r1lite sandbox --attack` tries to break each promise):

files        read: the interpreter, the compiler and their libraries; written: a folder of its own
             that lives in memory and is emptied after every program
network      none, not even this machine's own; no socket of any kind can be made
processes    none is left when a program's first process has ended or its time is up; those
             outside can be neither seen nor signalled
secrets      no variable of your environment, no open file; in its memory nothing of a program before
             it, neither source nor input nor output, and of the tests only the one that it is run on
bounds       time, memory, output, processes and size of files (Limits); the compiler has its own
judging      right answers never enter the jail

What it does not promise: that the kernel has no holes (programs share yours), that two programs
could not tell by timing that the other runs, and anything at all with jail="unsafe".
"""

from .jail import JAILS
from .pool import Sandbox
from .program import Limits, Outcome, Program, Run

__all__ = ["JAILS", "Limits", "Outcome", "Program", "Run", "Sandbox"]
