"""How pairs are chosen, as numbers; the journal keeps them with every start of a build."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite

from tans_core.acquisition.hypervolume import COST_SCALINGS, REF_COST
from tans_core.acquisition.surrogates import SURROGATES
from tans_core.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class AcquisitionConfig:
    """Defaults are what `make bench-scale` and whole simulated builds found best."""

    surrogate: str = "blocks"  # one of SURROGATES
    inducing_pairs: int = 256  # that datasets tell each other by; what one costs grows with their square
    block_rows: int = 200  # of one dataset that are compared with each other exactly
    fit_rows: int = 256  # spread over all, on which hyperparameters are fitted; a fit costs their cube
    networks: int = 300  # looked at in a decision, on every dataset
    cost_scaling: str = "quantiles"  # one of COST_SCALINGS
    ref_cost: float = REF_COST

    def __post_init__(self) -> None:
        for name, choices in (("surrogate", SURROGATES), ("cost_scaling", COST_SCALINGS)):
            if getattr(self, name) not in choices:
                raise ConfigError(f"{name} must be one of {', '.join(choices)}, got {getattr(self, name)!r}")
        for name, least in (("inducing_pairs", 1), ("block_rows", 1), ("fit_rows", 8), ("networks", 2)):
            if getattr(self, name) < least:
                raise ConfigError(f"{name} must be at least {least}, got {getattr(self, name)}")
        if not (isfinite(self.ref_cost) and self.ref_cost > 0):
            raise ConfigError(f"ref_cost must be a positive number, got {self.ref_cost}")


DEFAULT = AcquisitionConfig()
