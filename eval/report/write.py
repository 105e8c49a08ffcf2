"""Write the report of a result folder."""

from pathlib import Path

from eval.report.content import gather
from eval.report.markdown import report_markdown
from eval.report.page import report_page
from eval.store import write_text

HTML_FILE = "report.html"
MARKDOWN_FILE = "report.md"


def write_report(result_folder: Path) -> None:
    """Write `report.html`, `report.md` and a complete `metrics.json` into a result folder.

    Needs no model; videos that are still where the run found them give the page its pictures. The
    scores are those of `metrics.json`, which is made first where it is absent, and which gains
    `without_watching`. Each file appears whole. Raises InputError for a folder that holds no
    finished run.
    """
    content = gather(result_folder)
    write_text(result_folder / HTML_FILE, report_page(content))
    write_text(result_folder / MARKDOWN_FILE, report_markdown(content))
