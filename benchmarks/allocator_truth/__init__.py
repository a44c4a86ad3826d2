"""PyTorch's own compiled allocator, run on a machine without a GPU, against our model of it.

``libc10_cuda.so`` of a released torch holds the real ``DeviceCachingAllocator``. It needs no GPU,
only somebody who answers ``cudaMalloc``: ``fake_cuda.cpp`` does, ``replay.cpp`` drives the
allocator through its C++ interface, ``record.py`` writes down what it counted, and
``tests/estimate/memory/allocator/test_allocator_truth.py`` compares the model with that.
"""
