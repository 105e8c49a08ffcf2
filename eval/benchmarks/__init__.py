"""One file per benchmark; `get(name)` finds it."""

from eval.benchmarks.base import (
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
