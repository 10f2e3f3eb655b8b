"""How the processes of a Ray know each other: by a token on a Ray of our own; on a given cluster as that wants it."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import grpc
from ray._private import ray_constants
from ray._private.grpc_utils import init_grpc_channel
from ray._private.services import canonicalize_bootstrap_address
from ray._raylet import AuthenticationTokenLoader, Config  # type: ignore[reportAttributeAccessIssue]

from pipeline.on_ray.messages import one_line, reason
from pipeline.running.waiting import said_when_slow
from tans_core.errors import PoolError

MODE, TOKEN = "RAY_AUTH_MODE", "RAY_AUTH_TOKEN"
ANSWER_S = 20  # Ray itself asks a closed port for a minute, a silent one for ever
_QUESTION = "/ray.rpc.NodeInfoGcsService/GetClusterId"  # the least that every head is asked, with its token


@dataclass(frozen=True)
class Authentication:
    """What the environment has to say while Ray starts or is joined."""

    variables: Mapping[str, str]

    @property
    def made_token(self) -> str | None:
        """The token of our making, which nobody else knows, for the user's browser."""
        return self.variables.get(TOKEN)


def of_our_own() -> Authentication:
    """For a Ray that we start: a token, one of our making where the user has none; or what the user's mode says."""
    if os.environ.get(MODE, "token") != "token":
        return Authentication({})
    return Authentication({MODE: "token"} if _users_token() else {MODE: "token", TOKEN: secrets.token_hex(32)})


def of_cluster(address: str) -> Authentication:
    """For a given cluster: its head is asked whether it wants a token, and whether it takes the user's.

    Raises:
        PoolError: no head answers, or the user's mode or token is not what it wants.
    """
    if "://" in address or os.environ.get(MODE) not in (None, "token", "disabled"):
        return Authentication({})  # of a Ray client, or of a kind that only Ray can ask about
    return agreed(address, partial(_takes, address))


def agreed(address: str, takes: Callable[[str | None], bool]) -> Authentication:
    """What a cluster wants that is asked by `takes`: whether it talks to those who show this token, or none.

    Raises:
        PoolError: nothing answers, or the user's mode or token is not what it wants.
    """
    mode = os.environ.get(MODE)
    if takes(None):
        if mode == "token":
            raise PoolError(
                f"the Ray cluster at {address!r} has no authentication and {MODE}=token is set: with it no worker "
                f"could answer; unset {MODE}"
            )
        return Authentication({MODE: "disabled"})
    if mode == "disabled":
        raise PoolError(f"the Ray cluster at {address!r} wants a token and {MODE}=disabled is set: unset {MODE}")
    token = _users_token()
    if token is None:
        raise PoolError(
            f"the Ray cluster at {address!r} wants a token and there is none: put it into a file that you alone can "
            "read and set RAY_AUTH_TOKEN_PATH to that"
        )
    if not takes(token):
        raise PoolError(
            f"the Ray cluster at {address!r} refuses the token of {_whence()}: ask who runs the cluster for its token"
        )
    return Authentication({MODE: "token"})


@contextmanager
def in_force(variables: Mapping[str, str]) -> Iterator[None]:
    """The environment says so for as long as the block lasts, and Ray, which reads it once, has read it."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    _read_again()
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        _read_again()


def _read_again() -> None:
    Config.initialize("")  # also where somebody else imported Ray long ago
    AuthenticationTokenLoader.instance().reset_cache()


def _users_token() -> str | None:
    with in_force({MODE: "token"}):
        loader = AuthenticationTokenLoader.instance()
        try:
            return loader.get_raw_token() if loader.has_token(ignore_auth_mode=True) else None
        except Exception as error:  # a file that is named and cannot be read
            raise PoolError(f"the token of {_whence()} cannot be read ({reason(error)}): mend or unset that") from error


def _whence() -> str:
    if TOKEN in os.environ:
        return TOKEN
    return os.environ.get("RAY_AUTH_TOKEN_PATH", "~/.ray/auth_token")


def _takes(address: str, token: str | None) -> bool:
    """Whether the head talks to those who show this token, or none.

    Raises:
        PoolError: nothing answers there, or no head of a cluster.
    """
    metadata = (("authorization", f"Bearer {token}"),) if token else ()
    try:
        with in_force({MODE: "disabled"}), said_when_slow(f"{address} to answer", ANSWER_S):
            found = canonicalize_bootstrap_address(address) if address == "auto" else address
            channel: Any = init_grpc_channel(found or address, ray_constants.GLOBAL_GRPC_OPTIONS)
            with channel:
                channel.unary_unary(_QUESTION)(b"", metadata=metadata, timeout=ANSWER_S)
        return True
    except grpc.RpcError as error:
        if error.code() is grpc.StatusCode.UNAUTHENTICATED:
            return False
        raise no_answer(address, error.details() or error.code().name) from error
    except (OSError, RuntimeError, ValueError) as error:
        raise no_answer(address, reason(error)) from error


def no_answer(address: str, why: str) -> PoolError:
    return PoolError(
        f"no Ray cluster answers at {address!r} ({one_line(why)}): check the address and that its head is up; leave "
        "--address out to work on this machine"
    )
