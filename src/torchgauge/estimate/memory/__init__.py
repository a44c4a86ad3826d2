"""Memory of a step, in stages. Each is a pure function of what the stage before returns.

::

    Trace ──lifetimes──▶ LiveBytes ──roles──▶ MemoryEstimate of tensors          any device
      │                      ▲
      ├──workspaces──────────┤ bytes that kernels take for themselves
      │                      ▼
      └──loop──▶ Loop ──allocator──▶ AllocatorResult ──device──▶ MemoryEstimate    a GPU

``lifetimes``: which storages are alive after each event of the step. ``roles``: what they are for.
``workspaces``: what each kernel allocates besides tensors. ``loop``: the allocations of several
steps, as a training loop makes them. ``allocator``: PyTorch's caching allocator, replayed.
``device``: a GPU's limit and context, and the verdict. ``pipeline`` runs the stages.
"""
