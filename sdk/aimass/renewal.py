"""Tokens of logins, renewed with the issuer (RFC 6749, section 6) before they expire or when they are refused."""

import asyncio
import os
import threading
import time
from collections.abc import AsyncGenerator, Callable, Generator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace

import httpx2

from aimass.door import Door, Grant, alone, forget, kept, save
from aimass.failures import Failure, of_problem
from aimass.issuer import Given, asked, endpoint, identity, known, person, refused

_REST = 10.0  # seconds between two renewals that fail
_TRIES = 3  # the token that we know, the one that another process got, and a new one


def ended(door: Door) -> Failure:
    """The failure that asks the user to log in again."""
    issuer = door.grant.issuer if door.grant else ""
    text = f"the login with {issuer} has ended: run `aimass login {door.url} --issuer {issuer}`"
    return Failure("login_ended", text)


def renewed(door: Door) -> Door:
    """The door with a new token from its issuer. Raises Failure: `login_ended` if the issuer refuses, `unavailable` if
    it does not answer."""
    grant = door.grant
    if not grant or not grant.refresh:
        raise ended(door)
    place = endpoint(known(grant.url), "token_endpoint")
    form = {"grant_type": "refresh_token", "refresh_token": grant.refresh, "client_id": grant.client_id}
    status, answer = asked(place, form=form)
    if status != 200 or answer is None:
        error = str((answer or {}).get("error", status))
        if error == "invalid_grant":  # expired, revoked, or used twice
            raise ended(door)
        raise refused(f"the issuer does not renew the login with {grant.issuer}: {error[:100]!a}")
    given = Given.of(answer)
    _same(grant, given)
    # Without a new refresh token the old one stays valid.
    return replace(door, key=given.token, grant=grant.renewed(given.refresh or grant.refresh, given.life, time.time()))


def _same(grant: Grant, given: Given) -> None:
    """Raises Failure for a token of another user (OpenID Connect Core, 12.2). Times are not checked: our clock may be
    wrong, and the refresh token is spent."""
    if given.identity is None:
        return
    claims = identity(given.identity, grant.url, grant.client_id)
    if (grant.subject and person(claims) != grant.subject) or claims.get("nonce", grant.nonce) != grant.nonce:
        raise refused("the issuer's answer is for another login")


def log_out(env: Mapping[str, str] = os.environ) -> tuple[Door | None, Failure | None]:
    """Deletes the saved login and revokes it. Returns the login, and why revoking it failed, if it did."""
    with alone(env):
        try:
            door = kept(env)
        finally:
            forget(env)
    try:
        withdraw(door.grant if door else None)
    except Failure as failure:
        return door, failure
    return door, None


def withdraw(grant: Grant | None) -> None:
    """Revokes a grant (RFC 7009) if the issuer has an endpoint for that. Raises Failure."""
    if not grant or not grant.refresh:
        return
    metadata = known(grant.url)
    if "revocation_endpoint" in metadata:
        form = {"token": grant.refresh, "token_type_hint": "refresh_token", "client_id": grant.client_id}
        status, _ = asked(endpoint(metadata, "revocation_endpoint"), form=form)
        if status != 200:
            raise refused(f"the issuer answers with {status}")


class RenewingAuth(httpx2.Auth):
    """Sends the token of a login and renews it. Processes of one login take turns: a refresh token works once."""

    def __init__(self, door: Door, env: Mapping[str, str] = os.environ) -> None:
        self._door, self._env = door, env
        self._turn = threading.Lock()
        self._why: tuple[str, str] | None = None  # code and text of the renewal that failed
        self._rests = 0.0
        self._new = ""  # the newest token, until the gateway accepts it
        # If a renewed door could not be saved, as on a full disk: the saved grant, which is spent, and that door.
        self._unkept: tuple[Grant | None, Door] | None = None

    def sync_auth_flow(self, request: httpx2.Request) -> Generator[httpx2.Request, httpx2.Response, None]:
        """Adds the token; repeats the request with a new one if the gateway refuses it."""
        if self._due():
            self._before()
        for _ in range(_TRIES):
            shown = self._show(request)
            response = yield request
            if self._taken(shown, response):
                return
            response.read()
            if not self._after(shown, response):
                return

    async def async_auth_flow(self, request: httpx2.Request) -> AsyncGenerator[httpx2.Request, httpx2.Response]:
        """As `sync_auth_flow`; the issuer is called in a thread."""
        if self._due():
            await asyncio.to_thread(self._before)
        for _ in range(_TRIES):
            shown = self._show(request)
            response = yield request
            if self._taken(shown, response):
                return
            await response.aread()
            if not await asyncio.to_thread(self._after, shown, response):
                return

    def _show(self, request: httpx2.Request) -> str:
        key = self._door.key
        request.headers["authorization"] = f"Bearer {key}"
        return key

    def _due(self) -> bool:
        return _late(self._door) and time.monotonic() >= self._rests

    def _before(self) -> None:
        """Renews a token that is about to expire. A failure is raised only when the gateway refuses the token."""
        with suppress(Failure):
            self._renew(self._door.key)

    def _taken(self, shown: str, response: httpx2.Response) -> bool:
        if response.status_code == 401:
            return False
        if self._new == shown:
            self._new = ""
        return True

    def _after(self, shown: str, response: httpx2.Response) -> bool:
        """Whether there is another token to try. Raises Failure for a login that has ended or cannot be renewed now."""
        if of_problem(401, response.content, response.headers).code != "token_invalid" or shown == self._new:
            return False  # another one would be refused too
        if self._why and time.monotonic() < self._rests:
            raise Failure(*self._why)
        self._renew(shown)
        return True

    def _renew(self, shown: str) -> None:
        """Replaces the token that was sent."""
        with self._turn:
            if self._door.key != shown:
                return
            try:
                door = _whole(self._other)
            except Failure as failure:
                self._why, self._rests = (failure.code, failure.detail), time.monotonic() + _REST
                raise
            self._door, self._why = replace(self._door, key=door.key, grant=door.grant), None

    def _other(self) -> Door:
        """A door with another token: that of a process that renewed it meanwhile, or a new one."""
        door = self._kept()
        if self._stale(door):
            if not door.grant or not door.grant.refresh:
                raise ended(door)
            with alone(self._env):
                door = self._kept()
                if self._stale(door):
                    door = self._exchanged(door)
        return door

    def _kept(self) -> Door:
        door = kept(self._env)
        if not door or _whose(door) != _whose(self._door):
            raise ended(self._door)  # logged out, or logged in as another user
        return self._unkept[1] if self._unkept and self._unkept[0] == door.grant else door

    def _stale(self, door: Door) -> bool:
        return door.key == self._door.key or _late(door)

    def _exchanged(self, door: Door) -> Door:
        there = kept(self._env)  # read before: after the exchange nothing may fail before the new token is used
        try:
            found = renewed(door)
        except Failure as failure:
            if failure.code == "login_ended" and door.grant and door.grant.refresh:
                with suppress(Failure):
                    save(
                        replace(door, grant=replace(door.grant, refresh="")), self._env
                    )  # other processes need not try
            raise
        self._new = found.key
        try:
            save(found, self._env)
        except Failure:  # this process uses it, and tries to save the next one
            self._unkept = there.grant if there else None, found
        return found


def _whole(work: Callable[[], Door]) -> Door:
    """Runs work to its end even if the caller is interrupted: a token that is not saved is lost."""
    pool = ThreadPoolExecutor(1)
    try:
        return pool.submit(work).result()
    finally:
        pool.shutdown(wait=False)


def _late(door: Door) -> bool:
    grant = door.grant
    return bool(grant and grant.refresh and grant.due and grant.due <= time.time())


def _whose(door: Door) -> tuple[str, ...]:
    grant = door.grant
    return (door.url, grant.url, grant.client_id, grant.subject) if grant else (door.url,)
