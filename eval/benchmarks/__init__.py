"""One file per benchmark; `get(name)` finds it."""

from eval.benchmarks.base import (
    STYLES,
    Benchmark,
    Grade,
    Graded,
    MetricRow,
    PublishedScore,
    Style,
    Tables,
    available,
    get,
)
from eval.benchmarks.problems import Problem

__all__ = [
    "STYLES",
    "Benchmark",
    "Grade",
    "Graded",
    "MetricRow",
    "Problem",
    "PublishedScore",
    "Style",
    "Tables",
    "available",
    "get",
]
