"""Everything that knows Ray. Importing it sets what Ray reads from the environment, once, when it is imported."""

from __future__ import annotations

import os
import secrets
from pathlib import Path


def _settle_environment() -> str | None:
    """Authentication is always on and said outright; a local Ray gets a token of its own where the user has none.

    Returns:
        That token, which only we know, for the user's browser.
    """
    os.environ["RAY_ENABLE_UV_RUN_RUNTIME_ENV"] = "0"
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    if os.environ.setdefault("RAY_AUTH_MODE", "token") != "token":
        return None
    given = any(name in os.environ for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"))
    if given or Path("~/.ray/auth_token").expanduser().exists():
        return None
    os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
    return os.environ["RAY_AUTH_TOKEN"]


OWN_TOKEN = _settle_environment()
