"""What ``PYTORCH_CUDA_ALLOC_CONF`` means to each release, and what it refuses."""

from __future__ import annotations

import ctypes
from pathlib import Path

import pytest

from torchgauge.errors import AllocatorSettingsError
from torchgauge.estimate.memory.allocator import AllocatorSettings
from torchgauge.estimate.memory.allocator.keys import rules_of

MIB = 1 << 20


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("speed:11", "unknown key 'speed'"),
        ("max_split_size:128", "'max_split_size'\n  try: perhaps max_split_size_mb"),
        ("max_split_size_mb", "'max_split_size_mb' is not key:value"),
        ("max_split_size_mb:", "'max_split_size_mb:' is not key:value"),
        ("max_split_size_mb:lots", "max_split_size_mb:lots is not a whole number"),
        ("max_split_size_mb:19", "max_split_size_mb:19 is too small\n  try: at least 20"),
        ("max_non_split_rounding_mb:1", "max_non_split_rounding_mb:1 is too small"),
        ("max_split_size_mb:20,large_segment_size_mb:40", "too small\n  try: at least 40"),
        ("large_segment_size_mb:10", "large_segment_size_mb:10 must be above 10"),
        ("expandable_segments:true", "expandable_segments:true is neither True nor False"),
        ("garbage_collection_threshold:1.0", "garbage_collection_threshold:1.0 is not a share"),
        ("garbage_collection_threshold:x", "garbage_collection_threshold:x is not a number"),
        ("roundup_power2_divisions:3", "roundup_power2_divisions: 3 is not a power of two"),
        ("roundup_power2_divisions:0", "roundup_power2_divisions: 0 is not a power of two"),
        ("roundup_power2_divisions:[3:4]", "roundup_power2_divisions: 3 is not a power of two"),
        ("roundup_power2_divisions:[1:4", "has no closing bracket"),
        ("backend:cudaMallocAsync", "backend:cudaMallocAsync is CUDA's own pool"),
        ("backend:mine", "unknown backend 'mine'"),
        ("pinned_num_register_threads:x", "pinned_num_register_threads:x is not a whole number"),
        ("pinned_num_register_threads:3", "pinned_num_register_threads: 3 is not a power of two"),
        ("pinned_num_register_threads:256", "pinned_num_register_threads:256 is too many"),
        ("pinned_reserve_segment_size_mb:0", "pinned_reserve_segment_size_mb:0 is too small"),
        ("per_process_memory_fraction:1.1", "per_process_memory_fraction:1.1 is not a share"),
        ("max_split_size_mb:128,,", "'' is not key:value"),
    ],
)
def test_what_the_settings_refuse(text, message):
    with pytest.raises(AllocatorSettingsError) as caught:
        AllocatorSettings.parse(text)
    assert message in str(caught.value) and caught.value.hint
    assert caught.value.exit_status == 2


def test_the_hint_lists_the_keys_of_the_release():
    with pytest.raises(AllocatorSettingsError) as caught:
        AllocatorSettings.parse("speed:11", "2.6")
    assert "max_split_size_mb" in caught.value.hint
    assert "large_segment_size_mb" not in caught.value.hint


@pytest.mark.parametrize(
    ("key", "first"),
    [
        ("graph_capture_record_stream_reuse:True", "2.9"),
        ("per_process_memory_fraction:0.5", "2.10"),
        ("large_segment_size_mb:40", "2.11"),
        ("throw_on_cudamalloc_oom:True", "2.12"),
        ("pinned_max_cached_size_mb:64", "2.13"),
    ],
)
def test_keys_are_known_from_a_release_on(key, first):
    """The strings of the released libraries; see keys.py."""
    major, minor = first.split(".")
    before = f"{major}.{int(minor) - 1}"
    AllocatorSettings.parse(key, first)
    name = key.partition(":")[0]
    with pytest.raises(AllocatorSettingsError, match=f"torch {before} has no key '{name}'"):
        AllocatorSettings.parse(key, before)


def test_max_split_size_may_be_the_large_segment_from_2_10():
    assert AllocatorSettings.parse("max_split_size_mb:20", "2.10").max_split_bytes == 20 * MIB
    with pytest.raises(AllocatorSettingsError, match="too small"):
        AllocatorSettings.parse("max_split_size_mb:20", "2.9")


def test_the_rest_of_the_intervals():
    """Before pytorch PR 165304, '>' also replaced the interval named last."""
    text = "roundup_power2_divisions:[256:1,512:2,>:4]"
    new = AllocatorSettings.parse(text, "2.10").roundup_power2_divisions
    old = AllocatorSettings.parse(text, "2.9").roundup_power2_divisions
    assert new == (1,) * 9 + (2,) + (4,) * 6
    assert old == (1,) * 9 + (4,) + (4,) * 6


def test_spaces_and_everything_at_once():
    settings = AllocatorSettings.parse(
        " max_split_size_mb : 64, expandable_segments:True ,backend:native,"
        "roundup_power2_divisions:[64:8,>:2],garbage_collection_threshold:0.8,"
        "pinned_use_background_threads:True",
        "2.13.0+cu130",
    )
    assert settings.torch_release == "2.13" and settings.max_split_bytes == 64 * MIB
    assert settings.expandable_segments and settings.garbage_collection_threshold == 0.8
    assert settings.roundup_power2_divisions == (8,) * 7 + (2,) * 9
    assert settings.without_effect == ("backend", "pinned_use_background_threads")
    assert AllocatorSettings.parse("") == AllocatorSettings()


@pytest.mark.parametrize(
    ("release", "message"),
    [("new", "'new' is not a torch release"), ("2.5", "of torch 2.5 are not known")],
)
def test_what_is_no_release(release, message):
    with pytest.raises(AllocatorSettingsError, match=message):
        AllocatorSettings.parse("", release)


@pytest.fixture
def torch_settings():
    """Set torch's own allocator settings, which even a CPU build has since 2.10."""
    torch = pytest.importorskip("torch")
    if rules_of(torch.__version__).version < (2, 10):
        pytest.skip("CUDA read its settings elsewhere before 2.10")
    # Some settings stay from one call to the next.
    reset = "large_segment_size_mb:20,expandable_segments:False"
    torch._C._accelerator_setAllocatorSettings(reset)
    yield torch._C._accelerator_setAllocatorSettings
    torch._C._accelerator_setAllocatorSettings(reset)


@pytest.mark.parametrize(
    ("text", "fine"),
    [
        ("max_split_size_mb:20", True),
        ("max_split_size_mb:19", False),
        ("large_segment_size_mb:40,max_split_size_mb:40", True),
        ("max_split_size_mb:40,large_segment_size_mb:64", False),
        ("large_segment_size_mb:10", False),
        ("large_segment_size_mb:11", True),
        ("max_non_split_rounding_mb:19", False),
        ("garbage_collection_threshold:0.5", True),
        ("garbage_collection_threshold:1.5", False),
        ("garbage_collection_threshold:0", False),
        ("expandable_segments:true", False),
        ("roundup_power2_divisions:3", False),
        ("roundup_power2_divisions:0", False),
        ("roundup_power2_divisions:[1:0,4:2]", True),
        ("roundup_power2_divisions:[300:2]", False),
        (" max_split_size_mb : 64 , expandable_segments:False", True),
        ("max_split_size_mb:many", False),
        ("max_split_size_mb:128,", True),
        ("max_split_size_mb:128,,", False),
        ("max_split_size_mb:128MB", True),
        ("max_split_size_mb:128 expandable_segments:True", False),
        ("expandable_segments:True;max_split_size_mb:128", False),
        ("pinned_max_cached_size_mb:0", True),
    ],
)
def test_torch_itself_refuses_the_same(torch_settings, text, fine):
    import torch

    release = torch.__version__
    if "large_segment" in text and rules_of(release).version < (2, 11):
        pytest.skip("large_segment_size_mb came with 2.11")
    if "pinned_max" in text and rules_of(release).version < (2, 13):
        pytest.skip("pinned_max_cached_size_mb came with 2.13")
    for parse in (torch_settings, lambda t: AllocatorSettings.parse(t, release)):
        if fine:
            parse(text)
        else:
            with pytest.raises((ValueError, RuntimeError, AllocatorSettingsError)):
                parse(text)


def test_a_cuda_build_older_than_2_10_refuses_the_same():
    """Its whole parser, which needs no GPU: for `make test-torch26`."""
    torch = pytest.importorskip("torch")
    name = "_cuda_cudaCachingAllocator_set_allocator_settings"
    if not hasattr(torch._C, name) or rules_of(torch.__version__).version >= (2, 10):
        pytest.skip("this torch reads its settings elsewhere, or has no CUDA")

    def refused(parse, text):
        try:
            parse(text)
        except (RuntimeError, ValueError, AllocatorSettingsError):
            return True
        return False

    texts = [
        "", "nonsense:1", "max_split_size:128", "max_split_size_mb=128", "max_split_size_mb:20",
        "max_split_size_mb:21", "max_split_size_mb:21,", "max_split_size_mb:21,,",
        "max_split_size_mb:128MB", "max_non_split_rounding_mb:16", "expandable_segments:true",
        "expandable_segments:", "expandable_segments", "backend:foo", "backend:native",
        "garbage_collection_threshold:1.0", "garbage_collection_threshold: 0.8",
        "roundup_power2_divisions:3", "roundup_power2_divisions:[256:1,512:2,>:4]",
        "roundup_power2_divisions:[256:3]", "pinned_num_register_threads:3",
        "pinned_num_register_threads:128", "pinned_num_register_threads:256",
        "pinned_use_background_threads:1", "per_process_memory_fraction:0.5",
        "throw_on_cudamalloc_oom:True", "large_segment_size_mb:32",
        "max_split_size_mb:128 expandable_segments:True",
    ]  # fmt: skip
    theirs, ours = getattr(torch._C, name), AllocatorSettings.parse
    differ = [
        text
        for text in texts
        if refused(theirs, text) != refused(lambda t: ours(t, torch.__version__), text)
    ]
    theirs("")
    assert differ == []


def test_what_follows_a_number_or_the_last_comma_is_dropped():
    """As C's ``stoi`` and torch's loop over the pairs do."""
    assert AllocatorSettings.parse("max_split_size_mb:128MB,").max_split_bytes == 128 * MIB
    assert AllocatorSettings.parse("per_process_memory_fraction:0").memory_fraction == 0


def test_torch_itself_reads_the_same_divisions(torch_settings):
    """Asks libc10 for the divisions of sizes in each interval."""
    import torch

    library = Path(torch.__file__).parent / "lib" / "libc10.so"
    name = "_ZN3c1016CachingAllocator26AcceleratorAllocatorConfig24roundup_power2_divisionsEm"
    if not library.exists() or not hasattr(ctypes.CDLL(str(library)), name):
        pytest.skip("libc10 does not export the function")
    divisions = ctypes.CDLL(str(library))[name]
    divisions.argtypes, divisions.restype = [ctypes.c_size_t], ctypes.c_size_t
    for value in ("4", "[256:1,512:2,>:4]", "[1:1,4:2,16:8,>:4]", "[>:8]", "[32768:2]", "[2:4]"):
        text = f"roundup_power2_divisions:{value}"
        torch_settings(text)
        ours = AllocatorSettings.parse(text, torch.__version__).roundup_power2_divisions
        assert [divisions(MIB << i) for i in range(18)] == [*ours, ours[-1], ours[-1]], text
