"""The errors that reach a user: one base class, one line each.

Every message holds the value that was refused, what is allowed, and the next step. The command
line prints the line and exits with status 2; a library user catches `TimeVLMError`.
"""


class TimeVLMError(Exception):
    """Base of every error that timevlm raises on purpose."""


class InputError(TimeVLMError):
    """The caller asked for something that cannot be done as asked."""


class VideoError(InputError):
    """A video cannot be opened, or holds no picture that can be used."""


class PlanError(InputError):
    """A sampling plan contradicts itself or the video it is applied to."""


class ChoiceError(InputError):
    """The answer choices of a question cannot be scored."""


class ModelError(TimeVLMError):
    """A model cannot be found, loaded or run as configured."""


class MemoryFileError(TimeVLMError):
    """A saved video memory is damaged, or belongs to another model or version."""
