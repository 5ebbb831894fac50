"""What a run may lack: a GPU, packages, the network. Looked for before anything is downloaded."""

import importlib.util
import os
import threading
from contextlib import suppress
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from ..config import TrainingConfig, repo_path
from ..records import UserError

KNOCK = 3.0  # seconds that the hub has to answer
HUB = "https://huggingface.co"
# (setting, value, package, another value that does without)
PACKAGES = (
    ("sampler", "vllm", "vllm", '"own"'),
    ("tuning", "qlora", "bitsandbytes", '"lora"'),
    ("optimizer", "adamw_8bit", "bitsandbytes", '"adamw"'),
    ("optimizer", "paged_adamw_8bit", "bitsandbytes", '"adamw"'),
)


def check_ready(cfg: TrainingConfig, preset: str = "tiny") -> None:
    """Raises UserError where a preset's GPU or a package that the settings need is missing."""
    if preset != "tiny" and cfg.device == "auto":
        import torch

        if not torch.cuda.is_available():
            raise UserError(
                f"preset {preset!r} is made for a GPU, and none is found: it would run on the CPU. "
                "Add --device cpu if that is wanted, or use --preset tiny."
            )
    for name, value, package, other in PACKAGES:
        if getattr(cfg, name, "") != value or not _is_missing(package):
            continue
        if package == "vllm" and getattr(cfg, "engine_url", ""):
            continue  # another process has it
        raise UserError(
            f"{name}={value!r} needs {package}, which is not installed: run `pip install {package}`"
            f", or set {name}= to {other}."
        )


def _is_missing(package: str) -> bool:
    with suppress(ValueError):  # a module without a spec is one all the same
        return importlib.util.find_spec(package) is None
    return False


def check_network(model: str) -> None:
    """Raises UserError within seconds where a model is a name on the hub that is in no cache, and
    the hub does not answer; the libraries below would try for minutes."""
    named = not model or model.startswith((".", "/", "data/", "runs/"))
    if named or Path(model).exists() or repo_path(model).exists():
        return
    if os.environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "on", "yes", "true"):
        return  # then only the cache is asked
    from huggingface_hub import try_to_load_from_cache

    with suppress(ValueError):  # no name that the hub could have: loading says so
        if isinstance(try_to_load_from_cache(model, "config.json"), str):
            return
    hub = os.environ.get("HF_ENDPOINT") or HUB
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
        with suppress(OSError):
            try:
                urlopen(Request(url, method="HEAD"), timeout=KNOCK).close()
            except HTTPError as error:
                if error.code >= 500 or error.code == 407:  # a proxy that gets no further
                    return
            found.set()

    thread = threading.Thread(target=knock, daemon=True)
    thread.start()
    thread.join(KNOCK)
    return found.is_set()
