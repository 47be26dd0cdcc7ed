"""capplan: a planner for container memory that knows the kernel."""

__version__ = "0.1.0"
