"""Synthesised files, each encoded once per test run."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.video.synthesis import Recipe, write


@pytest.fixture(scope="session")
def make_file(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Recipe], Path]:
    folder = tmp_path_factory.mktemp("videos")

    def make(name: str, recipe: Recipe) -> Path:
        path = folder / f"{name}.{recipe.suffix}"
        return path if path.exists() else write(path, recipe)

    return make
