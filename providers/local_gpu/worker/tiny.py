"""The real pipelines with random weights: tiny ones for tests and to try a worker out, and SVD-XT at full size.

What they make is noise. Everything else is as in the real ones: configuration, files, code and the shape of results.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderKLTemporalDecoder,
    EulerDiscreteScheduler,
    StableDiffusionXLImg2ImgPipeline,
    StableVideoDiffusionPipeline,
    UNet2DConditionModel,
    UNetSpatioTemporalConditionModel,
)
from transformers import (
    CLIPImageProcessor,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
)

SEED = 0
FRAMES = {"svd": 14, "svd-xt": 25}
TOKEN_FEATURES = 32
# Every byte as CLIP's tokenizer writes it, alone and at the end of a word, and the two marks.
PRINTABLE = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]


def build_tiny(name: str, folder: Path) -> None:
    """Write a tiny model of this name as its real one is kept, ready for `from_pretrained`."""
    with torch.random.fork_rng():
        torch.manual_seed(SEED)
        pipe = _tiny_clip_pipeline(FRAMES[name]) if name in FRAMES else _picture_pipeline(folder)
    pipe.save_pretrained(folder, safe_serialization=True)


def build_full_size(folder: Path) -> None:
    """Write SVD-XT at its own sizes with random weights, in half precision: no duration depends on their values."""
    with torch.random.fork_rng():
        torch.manual_seed(SEED)
        unet = UNetSpatioTemporalConditionModel(num_frames=FRAMES["svd-xt"], num_attention_heads=(5, 10, 20, 20))
        vae = AutoencoderKLTemporalDecoder(
            block_out_channels=(128, 256, 512, 512),
            down_block_types=("DownEncoderBlock2D",) * 4,
            layers_per_block=2,
            latent_channels=4,
        )
        vision = CLIPVisionConfig(
            hidden_size=1280,
            projection_dim=1024,
            num_hidden_layers=32,
            num_attention_heads=16,
            image_size=224,
            intermediate_size=5120,
            patch_size=14,
        )
        pipe = _clip_pipeline(unet, vae, vision)
    pipe.to(torch.float16).save_pretrained(folder, safe_serialization=True)


def _tiny_clip_pipeline(frames: int) -> Any:
    unet = UNetSpatioTemporalConditionModel(
        block_out_channels=(32, 64),
        down_block_types=("CrossAttnDownBlockSpatioTemporal", "DownBlockSpatioTemporal"),
        up_block_types=("UpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal"),
        layers_per_block=1,
        sample_size=32,
        in_channels=8,
        out_channels=4,
        cross_attention_dim=TOKEN_FEATURES,
        num_attention_heads=8,
        projection_class_embeddings_input_dim=96,
        addition_time_embed_dim=32,
        num_frames=frames,
    )
    vae = AutoencoderKLTemporalDecoder(
        block_out_channels=(32,) * 4,
        down_block_types=("DownEncoderBlock2D",) * 4,
        layers_per_block=1,
        latent_channels=4,
    )
    # The pipeline resizes to 224 pixels whatever the encoder wants.
    vision = CLIPVisionConfig(
        hidden_size=32,
        projection_dim=TOKEN_FEATURES,
        num_hidden_layers=2,
        num_attention_heads=4,
        image_size=224,
        intermediate_size=37,
        patch_size=32,
    )
    return _clip_pipeline(unet, vae, vision)


def _clip_pipeline(unet: Any, vae: Any, vision: Any) -> Any:
    return StableVideoDiffusionPipeline(
        vae=vae,
        image_encoder=CLIPVisionModelWithProjection(vision),
        unet=unet,
        scheduler=EulerDiscreteScheduler(
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            prediction_type="v_prediction",
            sigma_max=700.0,
            sigma_min=0.002,
            steps_offset=1,
            timestep_spacing="leading",
            timestep_type="continuous",
            use_karras_sigmas=True,
        ),
        feature_extractor=CLIPImageProcessor(crop_size=224, size=224),
    )


def _picture_pipeline(folder: Path) -> Any:
    unet = UNet2DConditionModel(
        block_out_channels=(32, 64),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        sample_size=32,
        in_channels=4,
        out_channels=4,
        attention_head_dim=(2, 4),
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        transformer_layers_per_block=(1, 2),
        projection_class_embeddings_input_dim=6 * 8 + TOKEN_FEATURES,
        cross_attention_dim=2 * TOKEN_FEATURES,
    )
    vae = AutoencoderKL(
        block_out_channels=(32,) * 4,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=1,
        latent_channels=4,
    )
    tokenizer = _tokenizer(folder / "vocabulary")
    text = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=TOKEN_FEATURES,
        projection_dim=TOKEN_FEATURES,
        intermediate_size=37,
        num_attention_heads=4,
        num_hidden_layers=3,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.eos_token_id,
    )
    return StableDiffusionXLImg2ImgPipeline(
        vae=vae,
        text_encoder=CLIPTextModel(text),
        text_encoder_2=CLIPTextModelWithProjection(text),
        tokenizer=tokenizer,
        tokenizer_2=tokenizer,
        unet=unet,
        scheduler=EulerDiscreteScheduler(
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            steps_offset=1,
            timestep_spacing="leading",
        ),
        requires_aesthetics_score=False,
        add_watermarker=False,
    )


def _tokenizer(folder: Path) -> Any:
    """CLIP's tokenizer, without merges: every byte is a token."""
    folder.mkdir(parents=True, exist_ok=True)
    letters = [chr(code) for code in PRINTABLE] + [chr(256 + n) for n in range(256 - len(PRINTABLE))]
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({token: number for number, token in enumerate(tokens)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    return CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=77)
