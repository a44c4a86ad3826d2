"""One change to a model or to how it runs; ``fit``, ``advise`` and the live page share it."""
