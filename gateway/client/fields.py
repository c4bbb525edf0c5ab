"""The fields of a request, for type checkers and editors: the gateway's vocabulary with every other name it takes.

A test compares them with the vocabulary itself. What a field means and which values it takes: /openapi.json.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypedDict

CameraMotion = Literal["pan_up", "pan_down", "pan_left", "pan_right", "zoom_in", "zoom_out", "cw", "acw"]


class _Fields(TypedDict, total=False):
    fit: Literal["exact", "nearest"]
    routing: Mapping[str, Any]
    metadata: Mapping[str, str]
    seed: int
    num_inference_steps: int
    prompt: str
    negative_prompt: str
    output: Literal["url", "inline"]
    base64: bool


class VideoFields(_Fields, total=False):
    """What a request for a video may say beside its picture."""

    motion_bucket_id: int
    motion: int | str
    camera_motion: CameraMotion
    camera_speed: float
    motion_speed: float
    num_frames: int
    frames: int
    noise_aug_strength: float
    cond_aug: float
    fps: int
    resize: Literal["keep_aspect", "crop_16_9"]
    resize_method: str
    maintain_aspect_ratio: bool
    width: int
    height: int
    min_guidance_scale: float
    max_guidance_scale: float
    decode_chunk_size: int
    decoding_t: int
    enhance_prompt: bool
    latent_interpolation_method: Literal["lerp", "slerp"]
    clip_skip: int
    output_format: Literal["mp4", "gif", "webp"]
    output_type: Literal["mp4", "gif", "webp"]


class ImageFields(_Fields, total=False):
    """What a request for a picture may say beside its picture."""

    samples: int
    scheduler: Literal["dpm2_karras", "euler_a"]
    guidance_scale: float
    strength: float


class JobFilters(TypedDict, total=False):
    """What a list of jobs may be narrowed by; times as dates or RFC 3339."""

    status: Literal["queued", "running", "succeeded", "failed", "canceled", "expired"]
    media: Literal["video", "image"]
    route: str
    key: str
    created_after: str
    created_before: str
    metadata: Mapping[str, str]
