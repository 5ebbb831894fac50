"""How good is a policy, and what does it write?"""

from .report import Report, clustered_interval, evaluate, grade, pass_at_k, pass_curve
from .search import SearchFigures, search_figures

__all__ = [
    "Report",
    "SearchFigures",
    "clustered_interval",
    "evaluate",
    "grade",
    "pass_at_k",
    "pass_curve",
    "search_figures",
]
