"""suzuri: the code behind the tools in bin/."""

__version__ = "0.1.0"
