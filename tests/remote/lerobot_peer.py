"""The other side, with the real ``lerobot`` package: run by an interpreter that has it, never imported.

`make FOLDER KIND...` saves small policies with random weights in folders of their kind's name, their processors with
statistics, and beside them the chunks that their networks give for :func:`request`, normalised and restored here by
hand. Without `make` it is our server, with the same small sizes of pi0.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

os.environ["HF_HUB_OFFLINE"] = "1"
TRANSFORMERS: Any = importlib.import_module("transformers")
SERVER = Path(__file__).resolve().parents[2] / "executor/policies/remote/lerobot_server"
JOINTS = 8
SIZE = (60, 80)
ROWS = {"act": 12, "diffusion": 8, "smolvla": 6, "pi0": 6}
WORDS = "pick up the red mug place it on shelf"
MEAN, STD = np.linspace(-1.0, 1.0, JOINTS, dtype=np.float32), np.linspace(0.5, 2.0, JOINTS, dtype=np.float32)
LOW, HIGH = MEAN - 2.0, MEAN + 3.0


def features() -> tuple[dict[str, Any], dict[str, Any]]:
    from lerobot.configs.types import FeatureType, PolicyFeature

    shape = (3, *SIZE)
    inputs = {f"observation.images.{c}": PolicyFeature(FeatureType.VISUAL, shape) for c in ("front", "wrist")}
    inputs["observation.state"] = PolicyFeature(FeatureType.STATE, (JOINTS,))
    return inputs, {"action": PolicyFeature(FeatureType.ACTION, (JOINTS,))}


def statistics() -> dict[str, dict[str, Any]]:
    picture = {"mean": np.full((3, 1, 1), 0.4, np.float32), "std": np.full((3, 1, 1), 0.3, np.float32)}
    picture |= {"min": np.zeros((3, 1, 1), np.float32), "max": np.ones((3, 1, 1), np.float32)}
    numbers = {"mean": MEAN, "std": STD, "min": LOW, "max": HIGH}
    return {
        "observation.images.front": picture,
        "observation.images.wrist": picture,
        "observation.state": numbers,
        "action": {"mean": MEAN * 2.0, "std": STD * 2.0, "min": LOW * 2.0, "max": HIGH * 2.0},
    }


def tokenizer(folder: Path) -> None:
    """A tokenizer of a few words, where the policy's configuration looks for the big one."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    extra = ["<pad>", "<unk>", "<image>", "<fake_token_around_image>", "<global-img>", "<end_of_utterance>", "\n"]
    words = {word: n for n, word in enumerate([*extra, *sorted(set(WORDS.split()))])}
    raw = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    raw.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made = PreTrainedTokenizerFast(
        tokenizer_object=raw,
        pad_token="<pad>",
        unk_token="<unk>",
        extra_special_tokens={
            "image_token": "<image>",
            "fake_image_token": "<fake_token_around_image>",
            "global_image_token": "<global-img>",
            "end_of_utterance_token": "<end_of_utterance>",
        },
    )
    made.save_pretrained(folder)


def small_vlm(folder: Path) -> None:
    """SmolVLM's configuration and processor with small numbers, in a folder that SmolVLA takes for its model's name."""
    config = TRANSFORMERS.SmolVLMConfig(
        text_config={
            "model_type": "llama", "vocab_size": 64, "hidden_size": 48, "intermediate_size": 64, "num_hidden_layers": 2,
            "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 12, "pad_token_id": 0,
        },
        vision_config={
            "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2,
            "image_size": 64, "patch_size": 16,
        },
        scale_factor=2, image_token_id=2, pad_token_id=0,
    )  # fmt: skip
    config.save_pretrained(folder)
    tokenizer(folder)
    processor = TRANSFORMERS.SmolVLMProcessor(
        image_processor=TRANSFORMERS.SmolVLMImageProcessor(),
        tokenizer=TRANSFORMERS.AutoTokenizer.from_pretrained(folder),
        video_processor=TRANSFORMERS.SmolVLMVideoProcessor(),
    )
    processor.save_pretrained(folder)


def shrink_pi0() -> None:
    """Pi0's class has fixed sizes of billions of parameters; here it is given small ones by the same names."""
    from lerobot.policies.pi0 import modeling_pi0

    mapping, siglip = TRANSFORMERS.CONFIG_MAPPING, TRANSFORMERS.SiglipVisionConfig
    vision = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "patch_size": 14, "image_size": 56}

    plain = siglip.__setattr__

    def small(self: Any, name: str, value: Any) -> None:
        plain(self, name, {"projection_dim": 48, "intermediate_size": 64}.get(name, value))

    siglip.__setattr__ = small

    def paligemma() -> Any:
        return mapping["paligemma"](vision_config={"model_type": "siglip_vision_model", **vision})

    def gemma(**sizes: Any) -> Any:
        return mapping["gemma"](**{**sizes, "vocab_size": 64})

    modeling_pi0.CONFIG_MAPPING = {"paligemma": paligemma, "gemma": gemma}
    modeling_pi0.get_gemma_config = lambda variant: SimpleNamespace(
        width=48, depth=2, mlp_dim=64, num_heads=4, num_kv_heads=1, head_dim=12
    )


def make(kind: str, folder: Path) -> None:
    from lerobot.policies import factory

    torch.manual_seed(0)
    inputs, outputs = features()
    options: dict[str, Any] = {"input_features": inputs, "output_features": outputs, "device": "cpu"}
    if kind == "act":
        options |= {"pretrained_backbone_weights": None, "dim_model": 32, "n_heads": 4, "dim_feedforward": 64}
        options |= {"n_encoder_layers": 1, "n_vae_encoder_layers": 1, "latent_dim": 8}
        options |= {"chunk_size": 20, "n_action_steps": 12}
    elif kind == "diffusion":
        options |= {"down_dims": (16, 32), "n_groups": 4, "diffusion_step_embed_dim": 16, "num_train_timesteps": 10}
        options |= {
            "pretrained_backbone_weights": None,
            "crop_shape": (56, 56),
            "spatial_softmax_num_keypoints": 4,
            "horizon": 16,
            "n_action_steps": 8,
        }
    elif kind == "smolvla":
        small_vlm(folder / "vlm")
        options |= {"vlm_model_name": str(folder / "vlm"), "load_vlm_weights": False, "num_vlm_layers": 2}
        options |= {"resize_imgs_with_padding": (64, 64), "chunk_size": 10, "n_action_steps": 6, "num_steps": 3}
        options |= {"tokenizer_max_length": 12, "expert_width_multiplier": 0.5}
    elif kind == "pi0":
        from lerobot.policies.pi0 import processor_pi0

        tokenizer(folder / "tokenizer")
        step = processor_pi0.TokenizerProcessorStep
        processor_pi0.TokenizerProcessorStep = lambda tokenizer_name, **more: step(
            tokenizer_name=str(folder / "tokenizer"), **more
        )
        options |= {"chunk_size": 10, "n_action_steps": 6, "num_inference_steps": 3, "tokenizer_max_length": 12}
        options |= {"image_resolution": (56, 56)}
    config = factory.make_policy_config(kind, **options)
    policy = factory.get_policy_class(kind)(config)
    with torch.no_grad():
        for parameter in policy.parameters():
            if parameter.dim() == 1:
                # Ones and zeros of norms and biases would hide a mistake.
                parameter.add_(0.05 * torch.randn_like(parameter))
    policy.save_pretrained(folder)
    before, after = factory.make_pre_post_processors(config, dataset_stats=statistics())
    before.save_pretrained(folder)
    after.save_pretrained(folder)
    np.savez(folder / "expected.npz", **{f"seed{n}": by_hand(policy.eval(), kind, folder, n) for n in (3, 4)})


def request() -> dict[str, Any]:
    """What the policies are asked with: the same numbers on both sides."""
    height, width = SIZE
    ramp = np.linspace(0, 255, height * width * 3).reshape(height, width, 3).astype(np.uint8)
    state = np.linspace(0.3, -0.7, JOINTS, dtype=np.float32)
    return {"observation.images.front": ramp, "observation.images.wrist": ramp[::-1].copy(), "observation.state": state}


def by_hand(policy: Any, kind: str, folder: Path, seed: int) -> Any:
    """The chunk for :func:`request`, with the statistics applied here and LeRobot's network alone asked."""
    asked, stats = request(), statistics()
    mean_std = kind != "diffusion"

    def scaled(key: str, value: Any) -> Any:
        s = stats[key]
        return (
            (value - s["mean"]) / (s["std"] + 1e-8) if mean_std else 2 * (value - s["min"]) / (s["max"] - s["min"]) - 1
        )

    state = scaled("observation.state", asked["observation.state"])
    batch: dict[str, Any] = {"observation.state": torch.tensor(state)}
    for key in ("observation.images.front", "observation.images.wrist"):
        picture = asked[key].transpose(2, 0, 1).astype(np.float32) / 255.0
        if kind in ("act", "diffusion"):
            picture = (picture - 0.4) / 0.3
        batch[key] = torch.tensor(picture, dtype=torch.float32)
    batch = {key: value[None] for key, value in batch.items()}
    torch.manual_seed(seed * 1_000_003 + 0)
    with torch.inference_mode():
        policy.reset()
        if kind == "diffusion":
            pictures = torch.stack([batch["observation.images.front"], batch["observation.images.wrist"]], dim=1)
            twice = {"observation.state": batch["observation.state"], "observation.images": pictures}
            chunk = policy.diffusion.generate_actions({k: v[:, None].repeat_interleave(2, 1) for k, v in twice.items()})
        else:
            if kind != "act":
                from transformers import AutoTokenizer

                where = folder / ("vlm" if kind == "smolvla" else "tokenizer")
                padding = "longest" if kind == "smolvla" else "max_length"
                words = AutoTokenizer.from_pretrained(where)(
                    [WORDS + "\n"], padding=padding, max_length=12, truncation=True, return_tensors="pt"
                )
                batch["observation.language.tokens"] = words["input_ids"]
                batch["observation.language.attention_mask"] = words["attention_mask"].bool()
            chunk = policy.predict_action_chunk(batch)
    rows = chunk[0, : ROWS[kind]].numpy()
    s = stats["action"]
    return rows * s["std"] + s["mean"] if mean_std else (rows + 1) / 2 * (s["max"] - s["min"]) + s["min"]


def serve() -> int:
    """Our server as its ``__main__`` starts it."""
    spec = importlib.util.spec_from_file_location("hiervla_start", SERVER / "__main__.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    code: int = module.start()
    return code


if __name__ == "__main__":
    if sys.argv[1] == "make":
        for name in sys.argv[3:]:
            if name == "pi0":
                shrink_pi0()
            place = Path(sys.argv[2]) / name
            place.mkdir(parents=True, exist_ok=True)
            make(name, place)
            print(f"made {name}", flush=True)
    else:
        shrink_pi0()
        sys.exit(serve())
