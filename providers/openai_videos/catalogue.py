"""Routes made from what an operator says of a server's models; the catalogue has the one of a server without words."""

from __future__ import annotations

from collections.abc import Mapping

from providers.capability import DELIVERED_BY_GATEWAY, AmbiguousBilling, Capability, Route, SizeRule
from providers.openai_videos.settings import Model, Settings

PROVIDER = "openai_videos"
VLLM = "vLLM-Omni videos_api"
BOTH = "vLLM-Omni videos_api, SGLang video_api"


def rows(model: Model) -> tuple[Capability, ...]:
    """What a model takes, as a table."""
    frames, rates = model.num_frames, model.fps
    known: Mapping[str, Capability] = {
        "num_frames": Capability(
            "num_frames",
            "num_frames",
            minimum=None if frames else 1,
            maximum=None if frames else 25,
            allowed=frames,
            wire_type="integer",
            affects_price=True,
            source=BOTH,
        ),
        "fps": Capability(
            "fps",
            "fps",
            minimum=None if rates else 1,
            maximum=None if rates else 60,
            allowed=rates,
            wire_type="integer",
            source=BOTH,
        ),
        "seed": Capability("seed", "seed", wire_type="integer", source=BOTH),
        "width": _side("width", model),
        "height": _side("height", model),
        "num_inference_steps": Capability(
            "num_inference_steps",
            "num_inference_steps",
            minimum=1,
            maximum=100,
            default=model.steps,
            wire_type="integer",
            affects_price=True,
            source=BOTH,
        ),
        "prompt": Capability("prompt", "prompt", default=model.prompt, note="the server demands one", source=BOTH),
        "negative_prompt": Capability("negative_prompt", "negative_prompt", source=BOTH),
    }
    resize = Capability("resize", by="gateway", note="vidgate crops the picture", source=BOTH)
    return (*(known[name] for name in known if name in model.parameters), resize, *DELIVERED_BY_GATEWAY)


def _side(name: str, model: Model) -> Capability:
    return Capability(
        name,
        name,
        minimum=64,
        maximum=model.side_max,
        wire_type="integer",
        affects_price=True,
        note="sent as `size` too, which is OpenAI's own field",
        source=VLLM,
    )


def route(slug: str, model: Model, lost_submit: AmbiguousBilling) -> Route:
    """One model as a route."""
    sized = {"width", "height"} <= set(model.parameters)
    return Route(
        name=f"{PROVIDER}/{slug}",
        provider=PROVIDER,
        media="video",
        model=model.model or slug,
        capabilities=rows(model),
        image_forms=("bytes",),
        mode="async",
        latency_nominal_s=model.seconds,
        resumable=True,
        ambiguous_billing=lost_submit,
        summary="A model behind a server that speaks OpenAI's /v1/videos",
        size=SizeRule(model.side_max, model.side_max, model.side_multiple) if sized else None,
        image_name="input_reference",
    )


def offered(settings: Settings) -> tuple[Route, ...]:
    """The routes of a configuration. Raises ValueError for one that is switched on and not among the models."""
    made = {f"{PROVIDER}/{slug}": route(slug, model, settings.lost_submit) for slug, model in settings.models.items()}
    unknown = [name for name in settings.routes if name not in made]
    if unknown:
        raise ValueError(f"unknown route {unknown[0]!r}; this provider has: {', '.join(sorted(made))}")
    return tuple(one for name, one in made.items() if not settings.routes or name in settings.routes)


CATALOGUE: tuple[Route, ...] = (route("i2v", Model(), "free"),)
