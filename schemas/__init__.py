"""What is on disk and what passes between stages: typed records, the pair schema, reading and validating."""
