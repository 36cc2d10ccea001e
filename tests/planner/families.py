"""Checkpoints of real model families with random weights, small enough to be made by a test in a moment."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

# Any: its annotations do not know sizes that come as a mapping.
tf: Any = transformers

TEXTS = [
    '{"seen":["red mug"],"answer":{"steps":[{"skill":"pick","args":{"object":"red mug"},"point":{"x":512,"y":300}}]}}',
    "Put the red mug on the top shelf. You plan for a robot arm; the next step is to pick up the blue block.",
]
TURNS = (
    "{% for m in messages %}<|{{ m['role'] }}|>{% for c in m['content'] %}{% if c['type'] == 'image' %}IMAGE{% else %}"
    "{{ c['text'] }}{% endif %}{% endfor %}<end>{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
ROLES = ["<pad>", "<end>", "<s>", "<|user|>", "<|assistant|>"]
TEXT_SIZES: dict[str, Any] = {
    "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 1, "max_position_embeddings": 8192,
}  # fmt: skip
VISION_SIZES: dict[str, Any] = {
    "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 64,
    "patch_size": 16,
}  # fmt: skip


def byte_level(specials: list[str], named: Mapping[str, str]) -> Any:
    """Byte-level BPE, as Llama 3, Qwen and SmolLM have it."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=420, initial_alphabet=alphabet, special_tokens=ROLES + specials, show_progress=False
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    return _fast(tokenizer, named)


def byte_fallback(specials: list[str], named: Mapping[str, str]) -> Any:
    """BPE on words with a bytes vocabulary to fall back on, as Gemma and Llama 2 have it."""
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    octets = [f"<0x{i:02X}>" for i in range(256)]
    first = [*ROLES, *specials, "<unk>", *octets]
    trainer = trainers.BpeTrainer(vocab_size=480, special_tokens=first, max_token_length=8, show_progress=False)
    tokenizer.train_from_iterator([t.replace(" ", "▁") for t in TEXTS], trainer)
    parts = json.loads(tokenizer.to_str())
    parts["added_tokens"] = [t for t in parts["added_tokens"] if t["content"] not in octets]
    return _fast(Tokenizer.from_str(json.dumps(parts)), named)


def _fast(tokenizer: Tokenizer, named: Mapping[str, str]) -> Any:
    return tf.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="<end>",
        bos_token="<s>",
        extra_special_tokens=dict(named),
    )


def idefics3(folder: Path) -> None:
    """Idefics3, the architecture of SmolVLM (arXiv 2408.12637, 2504.05299)."""
    marks = {
        "image_token": "<image>",
        "fake_image_token": "<fake_token_around_image>",
        "global_image_token": "<global-img>",
    }
    tokenizer = byte_level([*marks.values(), "<end_of_utterance>", "<row_1_col_1>"], marks)
    images = tf.Idefics3ImageProcessorPil(
        size={"longest_edge": 64}, max_image_size={"longest_edge": 64}, do_image_splitting=False
    )
    processor = tf.Idefics3Processor(
        images, tokenizer, image_seq_len=4, chat_template=TURNS.replace("IMAGE", "<image>")
    )
    config = tf.Idefics3Config(
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        vision_config=VISION_SIZES,
        text_config=tf.LlamaConfig(vocab_size=len(tokenizer), **TEXT_SIZES).to_dict(),
        scale_factor=2,
    )
    _save(folder, tf.Idefics3ForConditionalGeneration(config), processor)


def gemma3(folder: Path) -> None:
    """Gemma 3 (arXiv 2503.19786): sliding windows, attention both ways within an image."""
    marks = {"image_token": "<image_soft_token>", "boi_token": "<start_of_image>", "eoi_token": "<end_of_image>"}
    tokenizer = byte_fallback(list(marks.values()), marks)
    images = tf.Gemma3ImageProcessorPil(size={"height": 64, "width": 64}, do_pan_and_scan=False)
    template = "<s>" + TURNS.replace("IMAGE", "<start_of_image>")
    processor = tf.Gemma3Processor(images, tokenizer, chat_template=template, image_seq_length=4)
    text = tf.Gemma3TextConfig(
        vocab_size=len(tokenizer), head_dim=16, sliding_window=8, layer_types=["sliding_attention", "full_attention"],
        **TEXT_SIZES,
    )  # fmt: skip
    ids = {
        f"{k}_token_id": tokenizer.convert_tokens_to_ids(v)
        for k, v in zip(("image", "boi", "eoi"), marks.values(), strict=True)
    }
    config = tf.Gemma3Config(text_config=text.to_dict(), vision_config=VISION_SIZES, mm_tokens_per_image=4, **ids)
    _save(folder, tf.Gemma3ForConditionalGeneration(config), processor)


def llava(folder: Path) -> None:
    """Llava (arXiv 2304.08485)."""
    tokenizer = byte_level(["<image>"], {"image_token": "<image>"})
    images = tf.CLIPImageProcessorPil(size={"shortest_edge": 64}, crop_size={"height": 64, "width": 64})
    processor = tf.LlavaProcessor(
        images, tokenizer, patch_size=16, vision_feature_select_strategy="default", num_additional_image_tokens=1,
        chat_template=TURNS.replace("IMAGE", "<image>"),
    )  # fmt: skip
    config = tf.LlavaConfig(
        vision_config=tf.CLIPVisionConfig(projection_dim=16, **VISION_SIZES).to_dict(),
        text_config=tf.LlamaConfig(vocab_size=len(tokenizer), **TEXT_SIZES).to_dict(),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
    )
    _save(folder, tf.LlavaForConditionalGeneration(config), processor)


def qwen2_vl(folder: Path) -> None:
    """Qwen2-VL (arXiv 2409.12191), stored as on the hub: its processor would load one for videos, too."""
    marks = ["<|image_pad|>", "<|video_pad|>", "<|vision_start|>", "<|vision_end|>"]
    tokenizer = byte_level(marks, {})
    tokenizer.chat_template = TURNS.replace("IMAGE", "<|vision_start|><|image_pad|><|vision_end|>")
    images = tf.Qwen2VLImageProcessorPil(patch_size=14, min_pixels=56 * 56, max_pixels=112 * 112)
    roles = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    text = tf.Qwen2VLTextConfig(
        vocab_size=len(tokenizer), rope_parameters={"rope_type": "default", "mrope_section": [2, 3, 3]}, **roles,
        **TEXT_SIZES,
    )  # fmt: skip
    names = ("image_token_id", "video_token_id", "vision_start_token_id", "vision_end_token_id")
    config = tf.Qwen2VLConfig(
        text_config=text.to_dict(),
        vision_config={
            "depth": 1,
            "embed_dim": 16,
            "hidden_size": 32,
            "num_heads": 2,
            "mlp_ratio": 2,
            "patch_size": 14,
        },
        **{n: tokenizer.convert_tokens_to_ids(m) for n, m in zip(names, marks, strict=True)},
    )
    _save(folder, tf.Qwen2VLForConditionalGeneration(config), tokenizer, images)


def qwen25_vl(folder: Path) -> None:
    """Qwen2.5-VL (arXiv 2502.13923): points in pixels of the image that its processor made."""
    tokenizer, ids = _qwen_tokenizer()
    images = tf.Qwen2VLImageProcessorPil(patch_size=14, min_pixels=56 * 56, max_pixels=112 * 112)
    text = tf.Qwen2_5_VLTextConfig(
        vocab_size=len(tokenizer), rope_parameters={"rope_type": "default", "mrope_section": [2, 3, 3]},
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id, **TEXT_SIZES,
    )  # fmt: skip
    vision = {
        "depth": 1, "hidden_size": 16, "out_hidden_size": 32, "num_heads": 2, "intermediate_size": 32, "patch_size": 14,
        "window_size": 56, "fullatt_block_indexes": [0],
    }  # fmt: skip
    config = tf.Qwen2_5_VLConfig(text_config=text.to_dict(), vision_config=vision, **ids)
    _save(folder, tf.Qwen2_5_VLForConditionalGeneration(config), tokenizer, images)


def qwen3_vl(folder: Path) -> None:
    """Qwen3-VL (github.com/QwenLM/Qwen3-VL): points from 0 to 1000."""
    tokenizer, ids = _qwen_tokenizer()
    images = tf.Qwen2VLImageProcessorPil(patch_size=16, min_pixels=64 * 64, max_pixels=128 * 128)
    text = tf.Qwen3VLTextConfig(
        vocab_size=len(tokenizer), head_dim=16,
        rope_parameters={"rope_type": "default", "mrope_section": [2, 3, 3], "mrope_interleaved": True},
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id, **TEXT_SIZES,
    )  # fmt: skip
    vision = {
        "depth": 2, "hidden_size": 16, "out_hidden_size": 32, "num_heads": 2, "intermediate_size": 32, "patch_size": 16,
        "num_position_embeddings": 64, "deepstack_visual_indexes": [0],
    }  # fmt: skip
    config = tf.Qwen3VLConfig(text_config=text.to_dict(), vision_config=vision, **ids)
    _save(folder, tf.Qwen3VLForConditionalGeneration(config), tokenizer, images)


def _qwen_tokenizer() -> tuple[Any, dict[str, int]]:
    marks = ["<|image_pad|>", "<|video_pad|>", "<|vision_start|>", "<|vision_end|>"]
    names = ("image_token_id", "video_token_id", "vision_start_token_id", "vision_end_token_id")
    tokenizer = byte_level(marks, {})
    tokenizer.chat_template = TURNS.replace("IMAGE", "<|vision_start|><|image_pad|><|vision_end|>")
    return tokenizer, {n: tokenizer.convert_tokens_to_ids(m) for n, m in zip(names, marks, strict=True)}


POINTING: dict[str, Callable[[Path], None]] = {"qwen2.5-vl": qwen25_vl, "qwen3-vl": qwen3_vl}
"""Architectures whose pointing format is known for certain, by the name of that format."""

FAMILIES: dict[str, Callable[[Path], None]] = {
    "idefics3": idefics3, "gemma3": gemma3, "llava": llava, "qwen2_vl": qwen2_vl,
}  # fmt: skip


def make(family: str, folder: Path, seed: int = 0) -> Path:
    """Write a checkpoint with random weights; the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(seed)
    {**FAMILIES, **POINTING}[family](folder)
    return folder


def _save(folder: Path, model: Any, *parts: Any) -> None:
    # Logits far enough apart that rounding does not decide; and a Gemma starts out blind, its projection being zero.
    with torch.no_grad():
        for name, weights in model.named_parameters():
            if name.endswith("mm_input_projection_weight"):
                weights.normal_(std=0.5)
        model.get_output_embeddings().weight.normal_(std=0.5)
    for part in (model, *parts):
        part.save_pretrained(folder)
