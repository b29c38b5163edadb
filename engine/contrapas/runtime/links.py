"""Links as the sagas of an app make them: signed with the secret that the environment names."""

from __future__ import annotations

import os
from collections.abc import Callable

from contrapas.author.link import Claims, Link, sign

SECRET = "CONTRAPAS_LINK_SECRET"
"""Where the secret stands: the same for every worker and door of a namespace."""
PLACE = "CONTRAPAS_LINK_URL"
"""Where `/link/` is served, as people reach it: `https://shop.example`."""


def linker() -> Callable[[str, str, str, str, int], Link]:
    """(instance, run, type, body, until in ms of log time) -> the link. The secret is read when one is made."""

    def link(instance: str, run: str, type_name: str, body: str, until: int) -> Link:
        claims = Claims(instance=instance, run=run, type=type_name, body=body, until=until)
        token = sign(os.environ.get(SECRET, ""), claims)
        return Link(token=token, url=f"{os.environ.get(PLACE, '').rstrip('/')}/link/{token}")

    return link
