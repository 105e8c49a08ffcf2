"""Reports that people read: one page per result, one page per comparison of two results.

    write_report(RESULT)              report.html, report.md and metrics.json in the result folder
    write_comparison(A, B, OUT)       comparison.html, comparison.md and comparison.json in OUT

The pages are single files: styles, charts and pictures are inside, nothing is loaded, nothing
runs. Every number on a page is one of the JSON file beside it.
"""

from eval.report.comparison import write_comparison
from eval.report.write import write_report

__all__ = ["write_comparison", "write_report"]
