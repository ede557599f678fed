"""Asking clients, adding what they seal, and opening it with them."""
