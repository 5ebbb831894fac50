"""Where a model is: in a folder here, or on the hub, and whether that can be reached at all."""

import os
import threading
from contextlib import suppress
from pathlib import Path

import httpx
import huggingface_hub

from ..config import repo_path
from ..records import UserError

KNOCK = 4.0  # seconds that the hub has to answer
LOCAL = (".", "/", "data/", "runs/")  # what begins so is a path, and no name on the hub


def model_folder(model: str) -> Path | None:
    """A path as given, or the same path inside the project; None if neither holds a model."""
    places = (Path(model), repo_path(model))
    return next((place for place in places if (place / "config.json").exists()), None)


def check_network(model: str) -> None:
    """Raises UserError within seconds where a model is a name on the hub that is in no cache, and
    the hub does not answer; the libraries below would try for minutes."""
    if not model or model.startswith(LOCAL):
        return
    if Path(model).exists() or repo_path(model).exists():
        return
    if os.environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "on", "yes", "true"):
        return  # then only the cache is asked
    with suppress(ValueError):  # no name that the hub could have: loading says so
        if isinstance(huggingface_hub.try_to_load_from_cache(model, "config.json"), str):
            return
    hub = os.environ.get("HF_ENDPOINT") or huggingface_hub.constants.ENDPOINT
    if not _answers(hub):
        raise UserError(
            f"the model {model!r} is no folder here and in no cache, and {hub} does not "
            "answer: it can be fetched with a network alone. Connect this machine, or set model= "
            "to a folder such as 'data/tiny-base' (`python -m r1lite base` makes one)."
        )


def _answers(url: str) -> bool:
    """Whether a server or the proxy before it leads there in time; a thread, as looking up a name
    has no time limit."""
    found = threading.Event()

    def knock() -> None:
        with suppress(Exception):  # whatever fails here fails where the model is fetched, too
            status = httpx.head(url, timeout=KNOCK).status_code
            if status < 500 and status != 407:  # else a proxy that gets no further
                found.set()

    thread = threading.Thread(target=knock, daemon=True)
    thread.start()
    thread.join(KNOCK)
    return found.is_set()
