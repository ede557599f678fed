"""Who asks, and what is answered: HTTP, the Open Inference Protocol, outcomes."""
