"""Ask the API of PREFECT_API_URL for its version, before anything starts, and say in one line what is wrong with it."""

import time
from collections.abc import Callable
from json import JSONDecodeError

import httpx

from fire_opd.errors import RunError

_GRACE_SECONDS = 15.0  # for a server that is starting
_ANSWER_SECONDS = 10.0  # SQLite on a busy machine stalls for so long
_STARTING = (502, 503, 504)


class _NotYet(Exception):
    """What a server says, or does not, while it starts."""


def check_api(url: str, say: Callable[[str], None], grace: float = _GRACE_SECONDS) -> None:
    """Return when a Prefect server answers at `url` to Prefect's own client, with its password, certificates, proxies.

    Args:
        url: the address of the API.
        say: called with one line when the server is waited for.
        grace: seconds.

    Raises:
        RunError: nobody answers, or not a Prefect server, or it refuses.
    """
    shown = _without_password(url)
    until, told = time.monotonic() + grace, False
    while True:
        try:
            version = _version(url)
        except _NotYet as error:
            if time.monotonic() > until:
                raise RunError(
                    f"PREFECT_API_URL={shown}: no Prefect server answers there ({error}); start it (`make ui`), "
                    "correct the address, or unset the variable: a run then starts a server of its own"
                ) from None
        else:
            if version.split(".")[0] != _own_version().split(".")[0]:
                raise RunError(f"PREFECT_API_URL={shown}: Prefect {version} answers there, expected {_own_version()}")
            return
        if not told:
            say(f"no answer from {shown} yet; waiting {grace:.0f} s for a server that is starting")
            told = True
        time.sleep(1)


def _version(url: str) -> str:
    from prefect.client.orchestration import get_client
    from prefect.settings import PREFECT_API_URL, PREFECT_CLIENT_MAX_RETRIES, temporary_settings

    shown = _without_password(url)
    refused: RunError
    try:
        with (
            temporary_settings({PREFECT_API_URL: url, PREFECT_CLIENT_MAX_RETRIES: 0}),
            get_client({"timeout": _ANSWER_SECONDS}, sync_client=True) as client,
        ):
            answer = client.request("GET", "/admin/version")
        version = answer.json()
        if isinstance(version, str):
            return version
        refused = _no_api(shown, f"{version!r:.60}")
    except JSONDecodeError:
        refused = _no_api(shown, f"HTTP {answer.status_code}, {answer.headers.get('content-type', 'no content type')}")
    except httpx.HTTPStatusError as error:
        refused = _refusal(shown, error.response.status_code)
    except httpx.ProxyError as error:
        refused = RunError(f"PREFECT_API_URL={shown}: the proxy of this environment refuses ({error}); see NO_PROXY")
    except (httpx.TimeoutException, httpx.NetworkError, httpx.RemoteProtocolError) as error:
        raise _NotYet(f"{type(error).__name__}: {error}") from error
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        refused = RunError(f"PREFECT_API_URL={shown}: {error}; expected an address such as http://127.0.0.1:4200/api")
    raise refused from None


def _refusal(shown: str, status: int) -> RunError:
    if status in _STARTING:
        raise _NotYet(f"HTTP {status}")
    if status in (401, 403):
        return RunError(
            f"PREFECT_API_URL={shown}: the server refuses (HTTP {status}); set PREFECT_API_AUTH_STRING to the "
            "`user:password` that it was started with, which `make ui` keeps in <state>/prefect/password"
        )
    return _no_api(shown, f"HTTP {status}")


def _no_api(shown: str, found: str) -> RunError:
    hint = "" if shown.rstrip("/").endswith("/api") else f"; did you mean {shown.rstrip('/')}/api"
    return RunError(f"PREFECT_API_URL={shown}: what answers there is not Prefect's API ({found}){hint}?")


def _own_version() -> str:
    import prefect

    return prefect.__version__


def _without_password(url: str) -> str:
    scheme, separator, rest = url.partition("://")
    return f"{scheme}{separator}{rest.rpartition('@')[2]}"
