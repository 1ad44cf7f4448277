"""`expunge bench engine`: the engine's classes by themselves, in this process."""
