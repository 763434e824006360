"""Dense correspondence between photographs of different objects of a kind."""

__version__ = "0.1.0"
