"""Figures of speed and size, one module each; every one prints a JSON object on its last line."""
