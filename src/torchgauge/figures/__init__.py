"""Figures for papers, the graph as text, and tables as dataframes.

Each drawing is two steps: a plain description of what is drawn, and the drawing of it. matplotlib,
pandas and polars are imported when they are asked for.
"""

FIGURES = ("memory", "parameters", "roofline", "graph", "time")
"""The figures by name: the methods of ``report.plot``."""

PICTURES = (".svg", ".png", ".pdf")
TEXTS = {".dot": "dot", ".mmd": "mermaid"}
"""The graph as text: the ends of its files' names, and its languages."""
