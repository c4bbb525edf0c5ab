"""Any server that speaks OpenAI's `/v1/videos`: SGLang-diffusion, vLLM-Omni, or one of the team's own.

Read in this order: `settings` (what an operator says of the server's models), `catalogue` (routes made from that),
`replies` (what the server says), `adapter`. `simulator` is such a server without a model.

Sources: vLLM-Omni, docs/serving/videos_api.md; SGLang, multimodal_gen/runtime/entrypoints/openai/video_api.py and
protocol.py. Both take multipart with a picture as `input_reference`, and know `num_frames`, `fps`, `seed`,
`negative_prompt` and `num_inference_steps` beside OpenAI's own fields; both tell `inference_time_s`.
"""

from providers.openai_videos.plugin import PLUGIN

__all__ = ["PLUGIN"]
