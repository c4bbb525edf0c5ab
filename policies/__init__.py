"""Pure routing decisions over plain values: no I/O, no clock, no shared randomness."""
