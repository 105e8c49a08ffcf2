"""Benchmark evaluation on top of timevlm's public names.

    timevlm eval charades --data DIR --model nano          # or: python -m eval charades ...

    benchmarks/   one file each: official files in, prompts and scores out
    metrics/      pure functions from replies to scores
    models/       anything that can be asked about a video
    runner.py     draws the questions, answers a process's share (worker.py), scores the whole
    store.py      rows on disk that survive any kill
    replay.py     replay, rescore, compare
    sweep.py      grids of settings

From Python: `eval.runner.evaluate(RunSettings(bench=..., data=...))`.
"""
