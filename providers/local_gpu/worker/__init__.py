"""The server that renders on the team's own cards, by the protocol of docs/local-gpu.md.

Everything but `pipelines`, `speed`, `memory`, `tiny`, `child` and `ray_engine` runs without PyTorch: the process that
answers is never the process that computes.
"""
