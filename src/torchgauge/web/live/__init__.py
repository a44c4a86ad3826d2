"""The same page, served to this machine's browser, with answers to "what if".

``torchgauge ui`` starts it. Analyses run in a process of their own (``worker``), which keeps torch
and the models; the server imports no torch.
"""
