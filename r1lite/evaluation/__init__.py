"""How good is a policy, and what does it write?"""

from .report import Report, clustered_interval, evaluate, grade, pass_at_k, pass_curve
