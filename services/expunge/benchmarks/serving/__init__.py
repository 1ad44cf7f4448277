"""`expunge bench serving`: how fast the service answers, and what is compared with it."""
