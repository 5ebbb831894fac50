"""What a run computes, in one hash: settings, rewards, problems, loss, template, weights.

A folder holds one run. Without the hash, a second run in it (another reward, another loss) would
take up the first one's checkpoint and return its weights.
"""

import functools
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, is_dataclass
from pathlib import Path
from types import CodeType, FunctionType, MethodType
from typing import Any

import torch

from .. import dist
from ..config import RESUMABLE, TrainingConfig
from ..policy.hub import model_folder
from ..records import UserError
from ..runlog import TEMPORARY, read_json
from .checkpoint import digests

# in the folder of a run from others: what a shell or a scheduler writes down, hidden files
HARMLESS = re.compile(r"\.lock|\.DS_Store|lost\+found|log\.txt|.*\.(log|out|err)")
LOCK = ".lock"  # the file that the writer of a folder holds
READ = (".json", ".safetensors", ".bin", ".txt", ".model", ".jinja", ".py")  # of a model's folder
ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")  # where in memory an object is, in its repr


def digest(value: Any) -> str:
    """16 hex digits that depend on the value alone, of anything that `plain` can write down."""
    text = json.dumps(plain(value), sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def plain(value: Any) -> Any:
    """A value in JSON's terms: a function by what it computes, weights by their content."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, Mapping):
        return {str(key): plain(value[key]) for key in value}
    if isinstance(value, (set, frozenset)):
        return sorted(map(str, value))
    if isinstance(value, Sequence):
        return [plain(item) for item in value]
    if isinstance(value, torch.Tensor):
        return weights_digest({"": value})
    if isinstance(value, torch.nn.Module):
        return weights_digest(value.state_dict())
    if callable(value) and not is_dataclass(value):
        return function_name(value)
    if is_dataclass(value):
        return {name: plain(getattr(value, name)) for name in value.__dataclass_fields__}
    return f"{type(value).__qualname__} {ADDRESS.sub('', repr(value))}"


def function_name(function: Any) -> str:
    """A function's name; where it is not r1lite's, with a digest of its code and what it reads.

    Its code is the bytecode with its constants and names; what it reads are its defaults and the
    values that it closes over. A global that it reads counts by its name alone.
    """
    if isinstance(function, functools.partial):
        bound = digest([list(function.args), function.keywords])
        return f"partial {function_name(function.func)} {bound}"
    if isinstance(function, MethodType):
        held = digest(getattr(function.__self__, "__dict__", {}))
        return f"{function_name(function.__func__)} of {held}"
    if not isinstance(function, FunctionType):  # an object with __call__, or a builtin
        if isinstance(function.__call__, MethodType):
            return function_name(function.__call__)
        return f"{type(function).__module__}.{getattr(function, '__qualname__', function)}"
    if hasattr(function, "__wrapped__"):
        return function_name(function.__wrapped__)
    name = f"{function.__module__}.{function.__qualname__}"
    cells = [cell.cell_contents for cell in function.__closure__ or ()]
    if function.__module__.startswith("r1lite.") and not cells:
        return name
    read = [function.__defaults__, function.__kwdefaults__, cells]
    return f"{name} {digest([_code(function.__code__), read])}"


def _code(code: CodeType) -> list[Any]:
    constants = [_code(c) if isinstance(c, CodeType) else repr(c) for c in code.co_consts]
    return [code.co_code.hex(), constants, list(code.co_names)]


def weights_digest(state: Mapping[str, torch.Tensor]) -> str:
    """A digest of tensors by name, whatever their type and wherever they are."""
    total = hashlib.sha256()
    for name, tensor in state.items():
        total.update(name.encode())
        flat = tensor.detach().contiguous().cpu().flatten()
        total.update(flat.view(torch.uint8).numpy().tobytes() if flat.numel() else b"")
    return total.hexdigest()[:16]


def identity_of(cfg: TrainingConfig, **parts: Any) -> dict[str, Any]:
    """What a run computes, part by part, with the hash of all of it as "hash".

    parts  what is handed in beside the settings: rewards, problems, loss, ...; None is left out
    Only settings that differ from their default count: a setting that is added later, at its
    default, leaves older runs what they are. The files of a local model stand beside the hash, as
    "model": a run that was begun before they were noted goes on.
    """
    identity = {"settings": plain(cfg.non_default())}
    for name, value in parts.items():
        if value is not None:
            identity[name] = plain(value) if name == "rewards" else digest(value)
    files = {} if parts.get("policy") is not None else model_files(cfg.model)
    return identity | {"hash": digest(identity)} | files


def model_files(model: str) -> dict[str, str]:
    """{"model": digest} of all that is loaded from a local folder: tokenizer, settings, weights; {}
    for a name on the hub. Hashed whole, as a checkpoint is when it is saved, by one process."""
    folder = model_folder(model) if model and dist.is_main_process() else None
    if folder is None:
        return {}
    names = sorted(path.name for path in folder.iterdir() if path.suffix in READ)
    return {"model": digest(digests(folder, [n for n in names if n != "state.json"]))}


def open_folder(run_dir: Path) -> None:
    """Make the folder of a run, if it is not there.

    Raises UserError where it cannot be, and where it holds files that no run of r1lite left.
    """
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
        names = [path.name for path in run_dir.iterdir()]
        fine = (HARMLESS, TEMPORARY)
        others = sorted(n for n in names if not any(kind.fullmatch(n) for kind in fine))
        if others and not _run_json(run_dir):
            raise UserError(
                f"{run_dir} holds {', '.join(others[:3])} and no run.json that r1lite wrote: a run "
                "begins in an empty folder. Set run_dir= to a new one; nothing was changed here."
            )
        (run_dir / LOCK).touch()
    except OSError as error:
        raise UserError(
            f"{run_dir} cannot be the folder of a run ({error.strerror or error}): it has to be a "
            "folder that can be written to. Set run_dir= to another one."
        ) from error


def _run_json(run_dir: Path) -> dict[str, Any]:
    """What r1lite wrote down about the run in a folder; {} if nothing."""
    path = run_dir / "run.json"
    told = read_json(path) if path.exists() else {}
    ours = isinstance(told, dict) and isinstance(told.get("stage"), str)
    return told if ours and isinstance(told.get("identity", {}), dict) else {}


def check_same_run(run_dir: Path, identity: Mapping[str, Any], cfg: TrainingConfig) -> None:
    """Raises UserError if the folder holds another run than the one that is asked for.

    A start that failed before the first update has left nothing to hold on to.
    """
    log, told = run_dir / "metrics.jsonl", _run_json(run_dir)
    if not told or not log.exists() or not log.stat().st_size:
        return
    saved = {"model": identity.get("model")} | told.get("identity", {})
    same = saved.get("hash") == identity["hash"]
    if same and identity.get("model") in (saved["model"], None):
        return
    differing = _differences(saved if len(saved) > 1 else {}, identity, cfg)
    raise UserError(
        f"{run_dir} holds another run ({'; '.join(differing)}): a folder holds one run, and it is "
        "resumed with the settings, model, rewards, problems and loss it was begun with. Set "
        "run_dir= to a new folder, or delete this one."
    )


def _differences(saved: Mapping, asked: Mapping, cfg: TrainingConfig) -> list[str]:
    if not saved:
        return ["written by an older version, which did not note what it computed"]
    then, now = (asdict(type(cfg)()) | (whole.get("settings") or {}) for whole in (saved, asked))
    lines = [
        f"{field}: {then.get(field)!r} then, {now.get(field)!r} now"
        for field in then | now
        if field not in RESUMABLE and then.get(field) != now.get(field)
    ]
    parts = [name for name in {**saved, **asked} if name not in ("settings", "hash")]
    lines += [f"other {name}" for name in parts if saved.get(name) != asked.get(name)]
    return lines or ["an unknown difference"]
