"""The rooms: the science of tilting and its input and output, with no orchestrator in them."""

__version__ = "0.1.0"
