"""``duologue accuracy``: every label against the truth of synthetic conversations, and checks on real videos."""
