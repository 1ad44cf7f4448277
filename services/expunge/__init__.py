"""Expunge serves a language model and makes it forget on request, while it serves."""

__version__ = "0.1.0"
