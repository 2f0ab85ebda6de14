"""Reach object stores and web servers through fsspec; what their errors mean, and which are worth another attempt."""

import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from importlib.util import find_spec
from threading import Event
from typing import Any, TypeVar

from darkroom.config.addresses import WEB
from darkroom.errors import DownloadError

T = TypeVar("T")
R = TypeVar("R")

# Requests at a time: each waits for the network, hardly for the processor.
WORKERS = 16
# Results that are waited for, or not yet used.
AHEAD = 4 * WORKERS
# Seconds before each further attempt: in half a minute most servers have restarted.
WAITS = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
TIMEOUT_SECONDS = 30
HEADERS = {"Accept-Encoding": "identity"}  # the bytes of a file as they are counted
# What reads an address, and what DVC looks for changes with.
PACKAGES = {"s3": ("s3fs", "dvc_s3"), "gs": ("gcsfs", "dvc_gs")}
# Exceptions that are caused by others, by others, …
MAX_DEPTH = 8

PASSING_CODES = {
    *("SlowDown", "ServiceUnavailable", "InternalError", "RequestTimeout", "Throttling", "TooManyRequests"),
    *("429", "500", "502", "503", "504"),
}
CLOCK = (
    "the server refuses the clock of this machine, which differs from its own by too much; set the clock, such as by "
    "`timedatectl set-ntp true`"
)
CREDENTIALS = "the server does not know these credentials, or they have expired; check those in the environment"
NO_RIGHTS = "no right to read it; check the credentials in the environment, and what they may list and read"
NO_CREDENTIALS = (
    "no credentials in the environment; set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or "
    "FSSPEC_S3_ANON=true for a public bucket"
)
NO_GOOGLE_CREDENTIALS = (
    "no credentials in the environment; set GOOGLE_APPLICATION_CREDENTIALS, or FSSPEC_GS_TOKEN=anon for a public bucket"
)
NOT_FOUND = "not found; check the address"
REGION = "the bucket is in another region; set AWS_DEFAULT_REGION"
# By the code of an answer: S3's own, or HTTP's.
CODES = {
    "RequestTimeTooSkewed": CLOCK,
    "InvalidAccessKeyId": CREDENTIALS,
    "SignatureDoesNotMatch": CREDENTIALS,
    "ExpiredToken": CREDENTIALS,
    "InvalidToken": CREDENTIALS,
    "401": CREDENTIALS,
    "AccessDenied": NO_RIGHTS,
    "AllAccessDisabled": NO_RIGHTS,
    "403": NO_RIGHTS,
    "NoSuchBucket": "no such bucket; check the address",
    "InvalidBucketName": "no such bucket; a name has 3 to 63 lower-case letters, digits, dots and hyphens",
    "404": NOT_FOUND,
    "NoSuchKey": NOT_FOUND,
    "PermanentRedirect": REGION,
    "AuthorizationHeaderMalformed": REGION,
    "301": REGION,
    "InvalidObjectState": "archived; restore it from the archive first",
}
# By the name of an exception: most belong to packages that need not be installed.
KINDS = {
    "NoCredentialsError": NO_CREDENTIALS,
    "PartialCredentialsError": NO_CREDENTIALS,
    "ProfileNotFound": "no such profile; AWS_PROFILE names one that the configuration of the AWS tools lacks",
    "DefaultCredentialsError": NO_GOOGLE_CREDENTIALS,
    "RefreshError": CREDENTIALS,
    "PermissionError": NO_RIGHTS,
    "FileNotFoundError": NOT_FOUND,
}
AWAY = {
    "EndpointConnectionError": "the server cannot be reached; check the network, and AWS_ENDPOINT_URL if it is set",
    "ConnectTimeoutError": "no answer in time",
    "ReadTimeoutError": "no answer in time",
    "ConnectionTimeoutError": "no answer in time",
    "SocketTimeoutError": "no answer in time",
    "TimeoutError": "no answer in time",
    "FSTimeoutError": "no answer in time",
    "ServerTimeoutError": "no answer in time",
    "ClientConnectorError": "the server cannot be reached; check the network",
    "ClientConnectorDNSError": "the server cannot be reached; check its name and the network",
}
# Their modules, for exceptions that no list above names: trouble on the way, as a rule.
NETWORK = {"aiohttp", "botocore", "aiobotocore", "urllib3", "http"}


@dataclass(frozen=True)
class Trouble:
    """Why something could not be read, with what helps; ``is_passing`` if it may go by itself."""

    reason: str
    is_passing: bool = False


def missing_packages(address: str) -> str | None:
    """What is not installed that an address needs, with the command that installs it."""
    scheme = address.partition("://")[0].lower()
    missing = [name.replace("_", "-") for name in PACKAGES.get(scheme, ()) if find_spec(name) is None]
    if not missing:
        return None
    return f"{address}: needs {' and '.join(missing)}; run `pip install --editable '.[{scheme}]'`"


def open_store(address: str) -> Any:
    """fsspec's file system of an address; its credentials come from the environment. Raises DownloadError."""
    import fsspec

    if missing := missing_packages(address):
        raise DownloadError(missing)
    scheme = address.partition("://")[0].lower()
    options: dict[str, Any] = {"use_listings_cache": False, "skip_instance_cache": True}
    if scheme == "s3":
        # One request for a file, many files at a time; ``attempt`` is what tries again.
        options |= {"max_concurrency": 1, "config_kwargs": {"retries": {"total_max_attempts": 1}}}
    if scheme in WEB:
        import aiohttp

        # Proxies as the environment names them. An archive may take hours, but not half a minute without a byte.
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=TIMEOUT_SECONDS, sock_read=TIMEOUT_SECONDS)
        options["client_kwargs"] = {"trust_env": True, "timeout": timeout}
        options["headers"] = HEADERS
    store = _google_store(options) if scheme == "gs" else fsspec.filesystem(scheme, **options)
    store.retries = 1  # of s3fs
    return store


def _google_store(options: dict[str, Any]) -> Any:
    # What fsspec would take asks Google before each file for the kind of its bucket, and warns where it may not.
    from gcsfs.core import GCSFileSystem

    # It logs every problem with its traceback; ``diagnose`` says in a line what it means.
    logging.getLogger("gcsfs").setLevel(logging.CRITICAL)
    # ``attempt`` is what tries again: gcsfs itself would for half a minute before each further attempt.
    once = getattr(GCSFileSystem._request, "__wrapped__", GCSFileSystem._request)
    return type("GoogleStore", (GCSFileSystem,), {"_request": once})(**options)


def diagnose(problem: BaseException) -> Trouble | None:
    """What an exception of fsspec means, None if it is none of the network's.

    Its own text is not used: it may hold an address that another server has signed.
    """
    chain = [problem]
    while len(chain) < MAX_DEPTH and (inner := chain[-1].__cause__ or chain[-1].__context__):
        chain.append(inner)
    if codes := [code for each in chain for code in _codes(each)]:
        if PASSING_CODES.intersection(codes):
            return Trouble(f"the server is overloaded or failing ({codes[0]})", is_passing=True)
        return Trouble(next(filter(None, map(CODES.get, codes)), f"the server refuses it ({codes[0]})"))
    for kinds, is_passing in ((AWAY, True), (KINDS, False)):
        for each in chain:
            if reason := kinds.get(type(each).__name__):
                return Trouble(reason, is_passing)
    for each in chain:
        if isinstance(each, ConnectionError) or type(each).__module__.partition(".")[0] in NETWORK:
            return Trouble("connection broken off", is_passing=True)
    return None


def _codes(problem: BaseException) -> list[str]:
    """The codes of the answer that an exception is about: its own, and that of HTTP."""
    answer = getattr(problem, "response", None)
    if isinstance(answer, dict):  # botocore's
        found = [answer.get("Error", {}).get("Code"), answer.get("ResponseMetadata", {}).get("HTTPStatusCode")]
        return [str(code) for code in found if code]
    # aiohttp's; gcsfs's. (What aiohttp says of a connection that broke has a code of 400, which nobody answered.)
    code = getattr(problem, "code" if type(problem).__module__.startswith("gcsfs") else "status", None)
    return [str(code)] if isinstance(code, int) and code >= 300 else []


def attempt(call: Callable[[], T], what: str, ended: Event | None = None) -> T:
    """The result of ``call``, which is tried again after waits that double, unless ``ended`` is set.

    Raises DownloadError about ``what`` if it is refused, or fails whenever it is tried.
    """
    waits = iter(WAITS)
    while True:
        try:
            return call()
        except Exception as problem:
            trouble = diagnose(problem)
            if trouble is None:
                raise
        wait = next(waits, None) if trouble.is_passing else None
        if wait is None or (ended or Event()).wait(wait):
            raise DownloadError(f"{what}: {trouble.reason}")


def in_parallel(work: Callable[[T, Event], R], items: Iterable[T], ahead: int = AHEAD) -> Iterator[R]:
    """The results of ``work`` for each of ``items``, in their order; an error ends all others.

    ``work`` is told of that by the event that it is given. At most ``ahead`` results are kept.
    """
    ended, waiting = Event(), deque[Future[R]]()
    with ThreadPoolExecutor(WORKERS) as pool:
        try:
            for item in items:
                waiting.append(pool.submit(work, item, ended))
                if len(waiting) >= ahead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            ended.set()
            pool.shutdown(wait=False, cancel_futures=True)
