"""HTML from Python values, with every text escaped unless it is marked as HTML.

Replies of models and rows of data sets end up on the page, so escaping is the rule and `Html` the
exception that only this package makes.
"""

import html
from collections.abc import Mapping
from typing import Self

from eval.report.words import clean

_VOID = frozenset({"br", "col", "hr", "img", "meta"})

Attributes = Mapping[str, str | float | None]


class Html(str):
    """A piece of a page: its text is markup and is not escaped again."""

    def __add__(self, other: str) -> Self:
        """Joined with another piece; plain text is escaped first."""
        return type(self)(str(self) + escape(other))


def escape(text: str) -> Html:
    """Plain text as HTML, in content and in quoted attributes; `Html` as it is."""
    if isinstance(text, Html):
        return text
    return Html(html.escape(clean(text)))


def element(name: str, attributes: Attributes | None = None, *children: str | None) -> Html:
    """`<name attributes>children</name>`; children and attributes that are None are left out."""
    written = "".join(
        f' {key}="{escape(value if isinstance(value, str) else f"{value:g}")}"'
        for key, value in (attributes or {}).items()
        if value is not None
    )
    if name in _VOID:
        return Html(f"<{name}{written}>")
    return Html(f"<{name}{written}>{join(*children)}</{name}>")


def join(*children: str | None) -> Html:
    """The pieces one after the other."""
    return Html("".join(escape(child) for child in children if child is not None))
