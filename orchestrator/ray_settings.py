"""What Ray reads from the environment when it is imported: set here, before anything imports it. No Ray in here."""

import os
import secrets
from pathlib import Path


def set_environment(address: str) -> None:
    """Defaults for this process and all that Ray starts from it; what the user has set stands."""
    defaults = {
        "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
        "RAY_AIR_NEW_OUTPUT": "0",
        "NO_ALBUMENTATIONS_UPDATE": "1",
    }
    if address == "local":
        defaults |= {
            "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # every port of the cluster on loopback
            "RAY_AUTH_MODE": "token",  # other users of this machine cannot use those ports
            "RAY_AUTH_TOKEN": secrets.token_hex(32),  # of this command alone; never written down
            "RAY_NUM_REDIS_GET_RETRIES": "90",  # seconds that a busy machine may take to start
        }
    elif _has_token():
        defaults["RAY_AUTH_MODE"] = "token"  # Ray's clients would not send it; a cluster that asks for none ignores it
    for name, value in defaults.items():
        os.environ.setdefault(name, value)


def _has_token() -> bool:
    """Whether this user has a token of a cluster where Ray looks for one."""
    named = any(os.environ.get(name) for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"))
    return named or (Path.home() / ".ray" / "auth_token").is_file()
