"""The trainer and what it is measured against: data, networks, baselines, metrics, boards."""
