"""The one vocabulary of parameters: canonical names, aliases, ranges and defaults, as data.

Canonical names are those of the diffusers library. Everything that speaks about a parameter (the reader of requests,
eligibility, receipts, the OpenAPI schema, the docs) reads this table and each route's capability table.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Kind = Literal["integer", "number", "text", "choice", "boolean"]
Media = Literal["video", "image"]
Scalar = str | int | float | bool
VIDEO: frozenset[Media] = frozenset({"video"})
IMAGE: frozenset[Media] = frozenset({"image"})
BOTH: frozenset[Media] = VIDEO | IMAGE


@dataclass(frozen=True, slots=True)
class Parameter:
    """One canonical parameter of a request.

    `aliases` are other names accepted on input and never stored. `spellings` maps other ways to write a value, after
    lower-casing and turning blanks and hyphens into underscores, to the canonical value. `default` is what every vendor
    is sent when the caller wrote nothing; None means that nothing is sent.
    """

    name: str
    kind: Kind
    summary: str
    media: frozenset[Media] = VIDEO
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] = ()
    default: Scalar | None = None
    aliases: tuple[str, ...] = ()
    spellings: Mapping[str, str] = field(default_factory=dict)


SEED_MAX = 999_999_999_999_999
SEED_DRAWN_MAX = 2**31 - 1  # what every model takes, also those that publish no upper bound
TEXT_LENGTH_MAX = 2_000
CAMERA_MOTIONS = ("pan_up", "pan_down", "pan_left", "pan_right", "zoom_in", "zoom_out", "cw", "acw")
SCHEDULERS = ("dpm2_karras", "euler_a")

# `motion` is an alias of two parameters: the motion bucket when it is a number, the camera move when it is a word.
PARAMETERS: tuple[Parameter, ...] = (
    Parameter(
        "motion_bucket_id",
        "integer",
        "How much the picture moves; more is more.",
        minimum=1,
        maximum=255,
        default=127,
        aliases=("motion",),
    ),
    Parameter(
        "camera_motion",
        "choice",
        "The move of the camera.",
        choices=CAMERA_MOTIONS,
        aliases=("motion",),
        spellings={"clockwise": "cw", "anticlockwise": "acw", "counterclockwise": "acw", "ccw": "acw"},
    ),
    Parameter(
        "camera_speed",
        "number",
        "How far the camera moves; 0 stands still.",
        minimum=0,
        maximum=10,
        default=1,
        aliases=("motion_speed",),
    ),
    Parameter(
        "num_frames",
        "integer",
        "Number of frames of the video.",
        minimum=1,
        maximum=25,
        default=14,
        aliases=("frames",),
    ),
    Parameter(
        "noise_aug_strength",
        "number",
        "Noise added to the conditioning picture; more frees the motion and loses likeness.",
        minimum=0,
        maximum=1,
        default=0.02,
        aliases=("cond_aug",),
    ),
    Parameter("fps", "integer", "Frames a second of the video.", minimum=1, maximum=60, default=7),
    Parameter(
        "seed",
        "integer",
        "Seed of the randomness; -1 draws one.",
        media=BOTH,
        minimum=-1,
        maximum=SEED_MAX,
        default=-1,
    ),
    Parameter(
        "resize",
        "choice",
        "What becomes of the picture's shape; or give width and height.",
        choices=("keep_aspect", "crop_16_9"),
        default="keep_aspect",
        aliases=("resize_method", "maintain_aspect_ratio"),
        spellings={
            "maintain_aspect_ratio": "keep_aspect",
            "crop_to_16_9": "crop_16_9",
            "true": "keep_aspect",
            "false": "crop_16_9",
        },
    ),
    Parameter("width", "integer", "Width of the video in pixels; together with height.", minimum=64, maximum=4096),
    Parameter("height", "integer", "Height of the video in pixels; together with width.", minimum=64, maximum=4096),
    Parameter("num_inference_steps", "integer", "Denoising steps; more is slower.", media=BOTH, minimum=1, maximum=100),
    Parameter("min_guidance_scale", "number", "Guidance at the first frame.", minimum=0, maximum=20),
    Parameter("max_guidance_scale", "number", "Guidance at the last frame.", minimum=0, maximum=20),
    Parameter(
        "decode_chunk_size",
        "integer",
        "Frames decoded at a time; saves memory.",
        minimum=1,
        maximum=25,
        aliases=("decoding_t",),
    ),
    Parameter("prompt", "text", "What the result should show.", media=BOTH),
    Parameter("negative_prompt", "text", "What the result should not show.", media=BOTH),
    Parameter("enhance_prompt", "boolean", "Let the vendor rewrite the prompt."),
    Parameter("latent_interpolation_method", "choice", "How latents are interpolated.", choices=("lerp", "slerp")),
    Parameter("clip_skip", "integer", "Layers of the text encoder left out.", minimum=1, maximum=2),
    Parameter("samples", "integer", "Number of pictures.", media=IMAGE, minimum=1, maximum=4, default=1),
    Parameter(
        "scheduler",
        "choice",
        "The sampler.",
        media=IMAGE,
        choices=SCHEDULERS,
        spellings={"euler_ancestral": "euler_a"},
        default="dpm2_karras",
    ),
    Parameter(
        "guidance_scale", "number", "How closely to follow the prompt.", media=IMAGE, minimum=1, maximum=25, default=7.5
    ),
    Parameter(
        "strength", "number", "How far to leave the input picture.", media=IMAGE, minimum=0, maximum=0.99, default=0.9
    ),
    Parameter(
        "output_format",
        "choice",
        "Container of the result.",
        choices=("mp4", "gif", "webp"),
        default="mp4",
        aliases=("output_type",),
    ),
    Parameter(
        "output",
        "choice",
        "`url` links to the result, `inline` puts it into the reply as base64 too, up to `server.inline_bytes_max`.",
        media=BOTH,
        choices=("url", "inline"),
        default="url",
        aliases=("base64",),
        spellings={"true": "inline", "false": "url", "1": "inline", "0": "url"},
    ),
)

# The first of a pair must not be above the second: diffusers does not check it (pipeline_stable_video_diffusion.py).
ORDERED_PAIRS = (("min_guidance_scale", "max_guidance_scale"),)
IMAGE_ALIASES = ("input_image", "init_image")
BY_NAME: Mapping[str, Parameter] = {parameter.name: parameter for parameter in PARAMETERS}


def parameters_for(media: Media) -> tuple[Parameter, ...]:
    """The parameters that a request for this kind of media may carry, in the order of the table."""
    return tuple(parameter for parameter in PARAMETERS if media in parameter.media)
