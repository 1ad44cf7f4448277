"""The engine's own kernels in C, and how they are built and called."""
