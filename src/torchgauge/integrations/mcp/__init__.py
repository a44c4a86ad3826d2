"""A server for assistants in editors, by the Model Context Protocol: ``torchgauge mcp``.

``server`` has the tools and speaks the protocol; ``worker`` runs each question in a process of its
own, because it runs the user's code; ``answers`` are what runs there.
"""
