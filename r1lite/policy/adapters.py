"""LoRA and QLoRA: a few weights beside the model's own are trained, the others stand still.

A matrix W becomes W + (alpha / r) B A with A (r, in) and B (out, r), B = 0 at the start (Hu et al.,
arXiv 2106.09685). Switched off, the adapter leaves exactly the base: no second model is needed for
the KL penalty. QLoRA (arXiv 2305.14314) keeps W in 4 bits; the adapter is trained in float32.
"""

import contextlib
import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from transformers.pytorch_utils import Conv1D

from ..records import UserError, needs


def quantised(dtype: torch.dtype) -> Any:
    """How QLoRA loads weights: NF4 in blocks of 64, their scales quantised too, sums in dtype.

    Raises UserError where bitsandbytes is missing.
    """
    with needs('tuning="qlora"', "bitsandbytes", 'set tuning="lora"'):
        import bitsandbytes  # noqa: F401
        from transformers import BitsAndBytesConfig
    return BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )  # fmt: skip


def add_adapter(model: Any, rank: int, alpha: float, seed: int) -> None:
    """Put an adapter beside every linear layer but the head, in place; only it is trainable then.

    The routers of a mixture of experts, and its experts where they are one tensor, stay as they
    are. The start of A depends on the seed alone. Raises UserError where peft is missing, or knows
    no adapter for a model.
    """
    with needs('tuning="lora"', "peft", 'set tuning="full"'):
        from peft import LoraConfig
    linear, head = (torch.nn.Linear, Conv1D), model.get_output_embeddings()
    layers = {n for n, m in model.named_modules() if isinstance(m, linear) and m is not head}
    targets = sorted({name.rpartition(".")[2] for name in layers})
    for module in model.modules():
        # bitsandbytes repacks 4-bit weights on some CPUs as soon as it sees eval(): then they round
        # otherwise than in training, and no gradient passes through them any more
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        try:
            model.add_adapter(
                LoraConfig(r=rank, lora_alpha=alpha, target_modules=targets, task_type="CAUSAL_LM")
            )
        except ValueError as error:  # a state space model, whose kernels read weights themselves
            raise UserError(
                f'tuning="lora" with a {model.config.model_type} model: peft has no adapter for it '
                f'({str(error)[:160]}). Set tuning="full".'
            ) from error
    for parameter in trainable(model).values():
        parameter.data = parameter.data.float()  # a bfloat16 weight would not feel small steps


def trainable(model: Any) -> dict[str, torch.nn.Parameter]:
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def has_adapter(model: Any) -> bool:
    return bool(getattr(model, "_hf_peft_config_loaded", False))


def load_adapter(model: Any, folder: Path) -> None:
    """Put a saved adapter's weights into the one that the model has."""
    from peft import set_peft_model_state_dict
    from safetensors.torch import load_file

    state = load_file(folder / "adapter_model.safetensors")
    state = {name.removeprefix("base_model.model."): tensor for name, tensor in state.items()}
    try:
        found = set_peft_model_state_dict(model, state, adapter_name="default")
        wrong = [name for name in found.missing_keys if "lora_" in name] + found.unexpected_keys
    except RuntimeError as error:  # of another size
        wrong = [line.strip() for line in str(error).splitlines()[1:]]
    if wrong:
        raise UserError(
            f"the adapter in {folder} does not fit the model ({wrong[0]}): it was trained beside "
            "another one, or with another rank. Set model= and lora_rank= to what it was trained "
            "with."
        )


def save_adapter(model: Any, folder: Path | str) -> None:
    """Write the adapter as peft does, from this process (save_pretrained would from the first)."""
    from peft import get_peft_model_state_dict
    from safetensors.torch import save_file

    state = get_peft_model_state_dict(model, adapter_name="default")
    state = {f"base_model.model.{name}": tensor.contiguous() for name, tensor in state.items()}
    save_file(state, Path(folder) / "adapter_model.safetensors")
    model.peft_config["default"].save_pretrained(folder)


def weight_of(linear: Any) -> torch.Tensor:
    """The matrix (out, in) that a layer multiplies with: its own, and the adapter's where it is on.

    4-bit weights are unpacked to the type that they are multiplied in.
    """
    base = getattr(linear, "base_layer", linear)
    weight = base.weight
    if hasattr(weight, "quant_state") and weight.quant_state is not None:
        from bitsandbytes.functional import dequantize_4bit

        weight = dequantize_4bit(weight.data, weight.quant_state)
    if base is linear or linear.disable_adapters:
        return weight
    delta = sum(linear.get_delta_weight(name) for name in linear.active_adapters)
    return (weight.to(delta.dtype) + delta).to(weight.dtype)


@torch.no_grad()
def merged(model: Any) -> Any:
    """A plain model that computes the same, adapter multiplied in: what is exported.

    After QLoRA its base is the 4-bit one unpacked, beside which the adapter was trained.
    """
    from transformers import AutoModelForCausalLM

    if not has_adapter(model):
        return model
    config = copy.deepcopy(model.config)
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    state = model.state_dict()
    state = {k: v for k, v in state.items() if ".base_layer." not in k and ".lora_" not in k}
    for name, module in model.named_modules():
        if hasattr(module, "base_layer"):
            state[f"{name}.weight"] = weight_of(module)
            if module.base_layer.bias is not None:
                state[f"{name}.bias"] = module.base_layer.bias
    dtype = next(iter(state.values())).dtype
    plain = AutoModelForCausalLM.from_config(config, dtype=dtype).to(model.device)
    plain.load_state_dict(state)
    plain.generation_config = model.generation_config
    return plain.train(model.training)


class Reference:
    """The policy as it was at some update: a frozen copy of the model, or the adapter of then.

    At the start an adapter's reference is the base, with the adapter off.
    model   the policy's
    second  the same model loaded once more, where the first cannot be copied: it is sharded
    """

    def __init__(self, model: Any, second: Any = None):
        self.copy = None
        if not has_adapter(model):
            self.copy = copy.deepcopy(model) if second is None else second
            self.copy.requires_grad_(False).eval()
        self._model = model
        self._then: dict[str, torch.Tensor] | None = None

    def update_from(self, model: Any) -> None:
        """From here on it is the policy of now (the paper: every 400 updates)."""
        if self.copy is not None:
            self.copy.load_state_dict(model.state_dict())
        else:
            self._then = {name: p.detach().clone() for name, p in trainable(model).items()}

    @contextlib.contextmanager
    def as_model(self) -> Iterator[Any]:
        """A model that is the reference, inside the `with` block."""
        if self.copy is not None:
            yield self.copy
            return
        now = {name: p.data for name, p in trainable(self._model).items()}
        if self._then is None:
            self._model.disable_adapters()
        else:
            self._put(self._then)
        try:
            yield self._model
        finally:
            self._model.enable_adapters()
            self._put(now)

    def _put(self, values: dict[str, torch.Tensor]) -> None:
        for name, parameter in trainable(self._model).items():
            parameter.data = values[name]

    def state_dict(self) -> dict[str, torch.Tensor]:
        return self.copy.state_dict() if self.copy is not None else dict(self._then or {})

    def load_state_dict(self, state: dict[str, torch.Tensor]) -> None:
        if self.copy is not None:
            self.copy.load_state_dict(state)
        else:
            self._then = state or None
