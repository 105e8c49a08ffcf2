"""Reading replies and scoring them: pure functions of values, without any model.

Import the module that holds what you need (`from eval.metrics import grounding`); the package
itself imports nothing, so that a score never waits for a library that it does not use.
"""
