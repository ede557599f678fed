"""What is predicted, and how predictions are judged."""
