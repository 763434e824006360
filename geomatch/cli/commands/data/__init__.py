"""The commands on collections of photographs: benchmarks, the objects in them, which to annotate."""
