"""One stage a file: a pure function first, then its thin Beam PTransform."""
