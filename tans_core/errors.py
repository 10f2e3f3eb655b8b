"""Errors that a user can cause. Each says what was found, where, and the way out.

The kind decides the exit status. What another setting alone would cure, known before anything is begun, is a
`ConfigError`; what is not there, damaged, held by others or refused by a machine is one of the others.
"""


class TansError(Exception):
    """Base of all of them: the command prints it without a traceback and ends with status 1."""


class ConfigError(TansError):
    """A wrong setting: out of its range, against what the zoo keeps, or naming what cannot be. Status 2."""


class DatasetError(TansError):
    """A SPEC that cannot be read as a dataset of at least two classes."""


class SpecError(ConfigError, DatasetError):
    """A SPEC that says what cannot be: no kind that is known, an option that there is not, a name that is not there."""


class DatasetUnavailable(DatasetError):
    """A dataset that a service does not give now: the same command may get it later."""


class InvalidTopology(TansError):
    """A vector that is no network of its search space."""


class TrainingError(TansError):
    """A pair whose training cannot give a network: a loss that is not finite, a deadline."""


class WeightsError(TansError):
    """Weights that are gone, changed, of another shape, or not finite."""


class ZooError(TansError):
    """A zoo that cannot be opened, is held by another driver, or is of a newer schema."""


class PoolError(TansError):
    """Workers that the machine or the cluster cannot give, or a cluster that does not answer."""


class SpaceError(TansError):
    """A cross-modal space that cannot be trained, or does not belong to the zoo."""


class NoFeasibleRow(TansError):
    """No network of the zoo meets the limits."""
