"""One file per benchmark; `get(name)` finds it."""

from eval.benchmarks.base import (
    STRUCTURED_RULE,
    STYLES,
    Benchmark,
    Grade,
    MetricRow,
    Problem,
    PublishedScore,
    Style,
    Tables,
    available,
    get,
)

__all__ = [
    "STRUCTURED_RULE",
    "STYLES",
    "Benchmark",
    "Grade",
    "MetricRow",
    "Problem",
    "PublishedScore",
    "Style",
    "Tables",
    "available",
    "get",
]
