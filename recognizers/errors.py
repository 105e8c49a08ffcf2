"""What can go wrong in a recognizer: one line each, the value, what is allowed, the next step.

All are ValueErrors, so a caller needs no import to catch them; the package stands on its own and
does not know timevlm's errors.
"""


class RecognizerError(ValueError):
    """Base of every error that a recognizer raises on purpose."""


class UnknownNameError(RecognizerError):
    """No recognizer or family has this name."""


class ConfigError(RecognizerError):
    """A configuration contradicts itself."""


class FrameError(RecognizerError):
    """Frames have a shape or type that the recognizer cannot read."""


class StateError(RecognizerError):
    """A stream state does not belong to this recognizer, batch or picture size."""


class WeightsError(RecognizerError):
    """Weights cannot be found, or do not fit the model they are loaded into."""
