"""How good is a policy, and what does it write?"""

from .report import Report, clustered_interval, evaluate, grade
from .search import SearchFigures, search_figures

__all__ = [
    "Report",
    "SearchFigures",
    "clustered_interval",
    "evaluate",
    "grade",
    "search_figures",
]
