"""What the service says of itself: metrics for Prometheus."""
