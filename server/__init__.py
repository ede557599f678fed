"""Long-running services: the Flower ServerApp, and the Ray Serve endpoint."""
