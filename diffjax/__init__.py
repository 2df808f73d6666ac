"""Text-to-image generation research in JAX."""

__version__ = "0.1.0"
