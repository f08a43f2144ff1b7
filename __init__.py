"""duologue: in-the-wild two-person video to training data, and the trainer for it."""

__version__ = "0.1.0"
