"""Will it fit: the verdict, the largest size, the alternatives, the cache of a language model."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import torchgauge as tg
from torchgauge.changes.ideas import RANK
from torchgauge.changes.lora import adapt
from torchgauge.errors import DeviceError, InputError, ModelError, ScenarioError, UsageError
from torchgauge.facts.fit import Part, Verdict
from torchgauge.fit.sizes import Sample, SizeSearch
from torchgauge.fit.variants import VariantError
from torchgauge.trace.copy.converters import MetaConverter
from torchgauge.trace.copy.meta_copy import ModelCopy

GPU = "RTX 3060 12GB"
TRAINING = tg.Scenario(mode="training", optimizer="adamw")


class Blocks(nn.Module):
    """Repeated blocks, most of whose parameters are in linear layers."""

    def __init__(self, width: int = 256, depth: int = 3) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
            for _ in range(depth)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            x = x + block(x)
        return x


def fits(model: nn.Module | None = None, size: tuple[int, ...] = (64, 256), **options: object):
    options = {"device": GPU, "scenario": TRAINING, **options}
    return tg.fits(model or Blocks(), size, **options)


def verdict_only(model: nn.Module | None = None, size: tuple[int, ...] = (64, 256), **options):
    return fits(model, size, search=False, alternatives=False, **options)


# ---------------------------------------------------------------------------- the verdict


def test_the_figures_are_those_of_an_analysis():
    report = verdict_only()
    memory = tg.analyze(Blocks(), (64, 256), scenario=replace(TRAINING, device=GPU)).memory
    device = report.devices[0]
    assert device.allocated_bytes == memory.peak_allocated_bytes
    assert device.reserved_bytes == memory.peak_reserved_bytes
    assert device.minimum_bytes == memory.minimum_bytes
    assert device.device_bytes == memory.device_bytes
    assert device.usable_bytes == memory.capacity_bytes
    assert report.fits is memory.fits is True


def test_the_breakdown_sums_to_what_the_device_shows():
    report = verdict_only()
    assert sum(report.breakdown.values()) == report.devices[0].device_bytes
    params = sum(p.numel() for p in Blocks().parameters())
    assert report.breakdown[Part.PARAMETERS] == 4 * params
    assert report.breakdown[Part.OPTIMIZER_STATES] == 8 * params


def test_between_what_fits_and_what_does_not_the_allocator_gives_memory_back():
    # Batches from where it fits to where it does not; in between only under the smallest cap.
    search = fits(size=(8, 256), alternatives=False).largest_batch
    assert {item.fits for item in search.tried} == {True, False}
    for item in search.tried:
        memory = tg.analyze(
            Blocks(), (item.size, 256), scenario=replace(TRAINING, device=GPU)
        ).memory
        assert memory.fits is item.fits
        assert memory.verdict is item.verdict
        if item.verdict is Verdict.FITS:
            assert memory.device_bytes == item.device_bytes <= memory.capacity_bytes
        elif item.verdict is Verdict.FRAGMENTED:
            assert item.device_bytes > memory.capacity_bytes >= memory.device_bytes


def test_the_model_is_left_as_it_was():
    model = Blocks().train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    keys = {name: set(module.__dict__) for name, module in model.named_modules()}
    fits(model)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert {name: set(module.__dict__) for name, module in model.named_modules()} == keys
    assert all(p.requires_grad and p.grad is None for p in model.parameters())


# ---------------------------------------------------------------------------- the largest batch


def test_the_largest_batch_is_traced_and_so_is_the_next():
    found = fits(Blocks(width=1024), (8, 128, 1024), alternatives=False).largest_batch
    tried = {item.size: item.verdict for item in found.tried}
    runs = {item.size: item.fits for item in found.tried}
    assert found.is_bound
    assert runs[found.runs]
    assert found.unit == 1
    assert not runs[found.runs + 1]
    assert found.full_speed <= found.safe < found.runs
    assert tried[found.safe].runs
    assert tried[found.safe + 1] is tried[found.runs] is Verdict.TOO_CLOSE
    assert found.full_speed % 8 == 0
    assert tried[found.full_speed] is Verdict.FITS
    assert tried.get(found.full_speed + 8) is not Verdict.FITS


def test_nothing_is_looked_for_without_a_batch():
    class TwoRows(nn.Module):
        def forward(self, x, y):
            return x.sum() + y.sum()

    data = (torch.zeros(3, 2), torch.zeros(4, 2))
    report = tg.fits(TwoRows(), input_data=data, device=GPU)
    assert report.batch_size is None
    assert report.largest_batch is None


def linear(per_size: int, fixed: int, capacity: int, step: int = 1, more: float = 0.0):
    """A size takes ``fixed + per_size × size``, rounded up as the allocator does.

    It may take that much ``more``: a share.
    """

    def sample(size: int) -> Sample:
        allocated = fixed + per_size * size
        reserved = -(-allocated // step) * step
        most = round(allocated * (1 + more))
        verdict = Verdict.FITS if reserved <= capacity else Verdict.FRAGMENTED
        if most > capacity:
            verdict = Verdict.TOO_CLOSE if allocated <= 2 * capacity else Verdict.DOES_NOT_FIT
        return Sample(
            allocated_bytes=allocated,
            most_allocated_bytes=most,
            reserved_bytes=reserved,
            device_bytes=reserved,
            fits=allocated <= capacity,
            verdict=verdict,
        )

    return sample


@given(
    per_size=st.integers(1, 1000),
    fixed=st.integers(0, 10**6),
    capacity=st.integers(1, 10**6),
    start=st.integers(1, 1000),
    step=st.integers(1, 5000),
    guess=st.none() | st.integers(1, 10**6),
    more=st.sampled_from([0.0, 0.01, 0.3]),
)
def test_the_search_finds_the_largest_size(per_size, fixed, capacity, start, step, guess, more):
    sample = linear(per_size, fixed, capacity, step, more)
    search = SizeSearch(sample=sample, capacity_bytes=capacity, samples={start: sample(start)})
    found = search.run(guess)
    expected = max((capacity - fixed) // per_size, 0)
    assert found.is_bound
    assert expected - found.unit < (found.runs or 0) <= expected
    assert found.unit <= max(expected / 512, 1)
    assert (found.safe or 0) <= (found.runs or 0)
    if found.safe is not None:
        assert sample(found.safe).verdict.runs
        assert not sample(found.safe + found.unit).verdict.runs
    if found.full_speed is not None:
        assert sample(found.full_speed).verdict is Verdict.FITS
        assert sample(found.full_speed + max(found.unit, 8)).verdict is not Verdict.FITS
    assert len(found.tried) <= 40


def test_a_line_is_found_in_few_traces():
    sample = linear(931, 12_345, 1_000_000, 2048)
    search = SizeSearch(sample=sample, capacity_bytes=1_000_000, samples={1: sample(1)})
    found = search.run()
    assert (found.runs, found.unit) == (1060, 2)
    assert len(found.tried) <= 8


def test_a_size_that_grows_with_its_square_is_found_too():
    def sample(size: int) -> Sample:
        return linear(1, size * size, 1_000_000)(size)

    search = SizeSearch(sample=sample, capacity_bytes=1_000_000, samples={10: sample(10)})
    assert search.run().runs == 999


def test_a_refused_size_ends_the_search_and_is_said():
    inner = linear(1, 0, 100)

    def sample(size: int) -> Sample:
        if size > 20:
            raise VariantError(RuntimeError("only 20 positions"))
        return inner(size)

    search = SizeSearch(sample=sample, capacity_bytes=100, samples={10: sample(10)})
    found = search.run()
    assert (found.runs, found.is_bound) == (20, False)
    assert "only 20 positions" in found.note


def test_the_search_ends_where_nothing_grows():
    sample = linear(0, 10, 100)
    search = SizeSearch(sample=sample, capacity_bytes=100, samples={1: sample(1)})
    found = search.run()
    assert found.runs == search.limit
    assert not found.is_bound
    assert found.note == "sizes above 1,048,576 were not tried"


def test_values_of_the_inputs_are_kept_when_the_batch_grows():
    class Masked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4096, 4096)

        def forward(self, x, mask):
            return self.layer(x) if mask.all() else x

    data = {"x": torch.zeros(4, 256, 4096), "mask": torch.ones(4, 1, dtype=torch.bool)}
    report = tg.fits(Masked(), input_data=data, device=GPU, alternatives=False)
    assert report.largest_batch.runs > 500
    assert report.largest_batch.note == ""


def test_a_model_that_needs_real_values_is_not_run_at_other_sizes():
    class Picky(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(64, 64)

        def forward(self, x):
            return self.layer(x)[x.sum(1) > 0]

    report = tg.fits(Picky(), (8, 64), device=GPU)
    assert any("run for real on the CPU" in text for text in report.assumptions)
    assert report.largest_batch.runs == 8
    assert not report.largest_batch.is_bound
    assert "was refused" in report.largest_batch.note
    assert report.alternatives == ()


# ---------------------------------------------------------------------------- alternatives


@pytest.fixture(scope="module")
def report():
    return fits()


def names(report):
    return [item.name for item in report.alternatives]


def test_every_alternative_is_there_or_said_to_be_left_out(report):
    assert set(names(report)) == {
        "accumulation", "autocast", "checkpointing", "fused optimizer", "8-bit optimizer states",
        "adafactor", "sgd-momentum", "offload", "half precision", "lora", "expandable segments",
    }  # fmt: skip
    assert report.not_tried == ()


def test_each_alternative_is_a_trace_of_its_own(report):
    # Against analyze() of the scenario that the line describes.
    scenarios = {
        "checkpointing": {"checkpointing": True},
        "fused optimizer": {"optimizer_implementation": "fused"},
        "8-bit optimizer states": {"optimizer": "adamw-8bit"},
        "adafactor": {"optimizer": "adafactor"},
        "offload": {"offload_activations": True},
        "half precision": {"precision": "bf16"},
        "autocast": {"precision": "bf16-autocast"},
        "expandable segments": {"allocator": "expandable_segments:True"},
    }
    found = {item.name: item for item in report.alternatives}
    for name, fields in scenarios.items():
        scenario = replace(TRAINING, device=GPU, **fields)
        expected = tg.analyze(Blocks(), (64, 256), scenario=scenario)
        assert found[name].device_bytes == expected.memory.device_bytes, name
        more = expected.totals.total_flops - report.total_flops
        assert found[name].extra_flops == more, name


def test_accumulation_keeps_the_effective_batch_and_the_flops(report):
    found = next(item for item in report.alternatives if item.name == "accumulation")
    assert found.changes == ("batch 32, gradients accumulated over 2",)
    assert found.extra_flops == 0
    scenario = replace(TRAINING, device=GPU, accumulation=2)
    expected = tg.analyze(Blocks(), (32, 256), scenario=scenario).memory
    assert found.device_bytes == expected.device_bytes


def test_checkpointing_costs_flops_and_lora_saves_some(report):
    found = {item.name: item for item in report.alternatives}
    assert found["checkpointing"].extra_flops > 0
    assert found["lora"].extra_flops < 0


def test_what_makes_no_sense_is_not_tried():
    report = fits(nn.Conv2d(3, 64, 3), (1, 3, 32, 32))
    why = {item.name: item.why for item in report.not_tried}
    assert why["accumulation"] == "the batch is 1 already"
    assert why["checkpointing"] == "the model has no repeated blocks"
    assert why["lora"] == "linear layers hold only 0 % of the parameters"


def test_alternatives_are_combined_where_none_is_enough():
    model, size = Blocks(width=2048, depth=26), (1 << 16, 2048)
    report = fits(model, size)
    assert not report.fits
    single = [item for item in report.alternatives if len(item.changes) == 1]
    assert not any(item.verdict is Verdict.FITS for item in single)
    # Two micro-batches are traced; their FLOPs stand for those of all 65,536.
    accumulated = next(item for item in single if item.name == "accumulation")
    assert accumulated.changes == ("batch 1, gradients accumulated over 65536",)
    assert accumulated.extra_flops == 0
    combined = [item for item in report.alternatives if len(item.changes) > 1]
    assert combined
    smallest = min(single, key=lambda item: item.device_bytes)
    assert combined[0].device_bytes < smallest.device_bytes
    assert combined[0].verdict is Verdict.FITS


def test_no_grad_is_what_an_evaluation_loop_with_gradients_may_save():
    scenario = tg.Scenario(grad_enabled=True)
    with_graph = fits(size=(4096, 256), scenario=scenario, search=False)
    saved = next(item for item in with_graph.alternatives if item.name == "no_grad")
    assert saved.changes == ("torch.no_grad() around the forward",)
    without = verdict_only(size=(4096, 256), scenario=tg.Scenario()).devices[0]
    assert saved.device_bytes == without.device_bytes
    assert saved.saved_bytes == with_graph.devices[0].device_bytes - without.device_bytes > 0
    assert "no_grad" not in names(fits(size=(4096, 256), scenario=tg.Scenario(), search=False))


def test_what_is_too_close_to_call_comes_with_what_is_safe():
    """Other programs leave just what the step is predicted to take."""
    size, scenario = (1 << 17, 256), tg.Scenario(mode="training", optimizer="adamw")
    room = verdict_only(size=size, scenario=scenario).devices[0].headroom_bytes
    close = fits(size=size, scenario=replace(scenario, other_programs_bytes=room))
    device = close.devices[0]
    assert close.verdict is Verdict.TOO_CLOSE and close.fits and device.headroom_bytes == 0
    assert device.device_interval[0] < device.device_bytes < device.device_interval[1]
    assert close.largest_batch.safe < size[0] <= close.largest_batch.runs
    safe = fits(
        size=(close.largest_batch.safe, 256), search=False, alternatives=False,
        scenario=close.scenario,
    )  # fmt: skip
    assert safe.verdict.runs
    assert any(item.verdict is Verdict.FITS for item in close.alternatives)
    over = device.usable_bytes - device.context_bytes - device.minimum_bytes + (2 << 20)
    beyond = verdict_only(size=size, scenario=replace(scenario, other_programs_bytes=over))
    assert beyond.verdict is Verdict.TOO_CLOSE and not beyond.fits
    assert any("a desktop and other programs use" in text for text in beyond.assumptions)


def adapted(model):
    copy = ModelCopy(model, MetaConverter()).root
    adapt(copy)
    return copy


def test_lora_freezes_all_but_the_adapters():
    model = Blocks()
    copy = adapted(model)
    trained = {name: p.numel() for name, p in copy.named_parameters() if p.requires_grad}
    assert sum(trained.values()) == 3 * 2 * RANK * (256 + 1024)
    assert all(name.endswith(("lora_a.weight", "lora_b.weight")) for name in trained)
    assert all(p.is_meta for p in copy.parameters())
    assert type(model.blocks[0][0]) is nn.Linear
    scenario = replace(TRAINING, device=GPU)
    memory = tg.analyze(copy, (64, 256), scenario=scenario).memory
    assert memory.optimizer_bytes == 8 * sum(trained.values())


def test_lora_finds_the_linear_layers_of_gpt2():
    pytest.importorskip("transformers")
    from torchgauge.models.spec import build_model, parse_model_spec

    settings = {"n_layer": 2, "n_embd": 64, "n_head": 4, "vocab_size": 100, "n_positions": 32}
    copy = adapted(build_model(parse_model_spec("hf:gpt2", settings)).model)
    trained = sum(p.numel() for p in copy.parameters() if p.requires_grad)
    widths = (64 + 192, 64 + 64, 64 + 256, 256 + 64)  # c_attn, c_proj, c_fc, c_proj
    assert trained == 2 * RANK * sum(widths)


def test_eight_bit_states_take_what_bitsandbytes_lays_out():
    # bitsandbytes/optim/optimizer.py: two bytes per element, one float32 for each of two states
    # per block of 256; below 4,096 elements two float32 states; two tables of 256 float32.
    model = nn.Linear(100, 50)  # 5,000 weights, 50 biases
    memory = tg.analyze(
        model, (4, 100), scenario=tg.Scenario(mode="training", optimizer="adamw-8bit", device=GPU)
    ).memory
    blocks = -(-5000 // 256)
    assert memory.optimizer_bytes == 2 * 5000 + 2 * 4 * blocks + 2 * 4 * 50 + 2 * 4 * 256


def test_eight_bit_states_cannot_be_measured():
    with pytest.raises(ScenarioError, match="adamw-8bit is simulated here and cannot train"):
        tg.measure(
            nn.Linear(8, 4), (2, 8), scenario=tg.Scenario(mode="training", optimizer="adamw-8bit")
        )


def test_offloaded_activations_are_not_on_the_device():
    scenario = replace(TRAINING, device=GPU)
    plain = tg.analyze(Blocks(), (4096, 256), scenario=scenario).memory
    scenario = replace(scenario, offload_activations=True)
    offloaded = tg.analyze(Blocks(), (4096, 256), scenario=scenario).memory
    assert offloaded.saved_activation_bytes <= 4096 * 256 * 4 + 4  # the output and the loss
    assert offloaded.peak_allocated_bytes < plain.peak_allocated_bytes
    with pytest.raises(ScenarioError, match="has no meaning in inference"):
        tg.Scenario(offload_activations=True)


def test_on_a_cpu_there_is_nothing_to_offload():
    # save_on_cpu returns the tensor itself there: Tensor.cpu() copies nothing.
    peaks = [
        tg.analyze(
            Blocks(), (8, 256), scenario=replace(TRAINING, offload_activations=offload)
        ).memory.peak_allocated_bytes
        for offload in (False, True)
    ]
    assert peaks[0] == peaks[1]


@pytest.mark.parametrize("optimizer", ["sgd-momentum", "adam", "adamw", "adagrad"])
def test_a_fused_optimizer_takes_no_temporaries(optimizer):
    memory = {
        kind: tg.analyze(
            Blocks(),
            (1, 256),
            scenario=tg.Scenario(
                mode="training", optimizer=optimizer, device=GPU, optimizer_implementation=kind
            ),
        ).memory
        for kind in ("foreach", "fused")
    }
    assert memory["fused"].peak_allocated_bytes <= memory["foreach"].peak_allocated_bytes
    steps = 4 * 12 if optimizer != "sgd-momentum" else 0  # a step count per tensor, now on the GPU
    assert memory["fused"].optimizer_bytes == memory["foreach"].optimizer_bytes + steps


def test_cross_entropy_under_autocast_asks_for_float32_once():
    for precision in ("fp16-autocast", "bf16-autocast"):
        scenario = tg.Scenario(
            mode="training", loss="cross_entropy", precision=precision, device=GPU
        )
        assert tg.analyze(nn.Linear(8, 4), (16, 8), scenario=scenario).memory.fits


# ---------------------------------------------------------------------------- many devices


def test_many_devices_are_what_each_is_alone():
    model = nn.TransformerEncoderLayer(64, 4, 128, batch_first=True)
    devices = ["T4", "RTX 3090", "H100-SXM"]
    scenario = tg.Scenario(mode="training", optimizer="adamw", precision="bf16")
    together = tg.fits(model, (8, 128, 64), device=devices, scenario=scenario)
    assert [row.device for row in together.devices] == devices
    assert together.alternatives == ()
    assert together.largest_batch is None
    for row in together.devices:
        alone = verdict_only(model, (8, 128, 64), device=row.device, scenario=scenario).devices[0]
        assert replace(alone, minimum_bytes=None) == replace(row, minimum_bytes=None)


def test_without_attention_one_trace_serves_all_devices():
    report = tg.fits(Blocks(), (64, 256), device="all", scenario=TRAINING)
    assert report.traces == 1
    assert len(report.devices) > 60
    assert len({row.device for row in report.devices}) == len(report.devices)
    smallest = min(report.devices, key=lambda row: row.usable_bytes)
    assert smallest.verdict is Verdict.FITS
    assert not [text for text in report.warnings if "is left out" in text]


# ---------------------------------------------------------------------------- language models


@pytest.fixture(scope="module")
def llama():
    pytest.importorskip("transformers")
    from torchgauge.models.spec import build_model, parse_model_spec

    settings = {
        "hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 3,
        "num_attention_heads": 8, "num_key_value_heads": 2, "vocab_size": 1000,
        "max_position_embeddings": 4096,
    }  # fmt: skip
    return build_model(parse_model_spec("hf:llama", settings)).model


@pytest.mark.parametrize("kind", ["dynamic", "static"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_keys_and_values_take_what_the_closed_form_says(llama, kind, precision):
    report = tg.fits(
        llama, device=GPU, context=512, batch_size=3, cache=kind, search=False,
        scenario=tg.Scenario(precision=precision),
    )  # fmt: skip
    per_token = 2 * 3 * 2 * 16 * (4 if precision == "fp32" else 2)  # K, V; layers; kv heads; head
    assert report.cache.bytes_per_token == per_token
    assert report.cache.cache_bytes == per_token * 512 * 3
    assert report.cache.prefill_peak_bytes > report.cache.decode_peak_bytes
    assert report.breakdown[Part.OUTPUTS] >= report.cache.cache_bytes // 2


def test_a_dynamic_cache_needs_room_for_two_of_a_layer(llama):
    # torch.cat makes the longer keys while the shorter ones are there.
    peaks = {
        kind: tg.fits(
            llama, device=GPU, context=2048, batch_size=4, cache=kind, search=False,
            alternatives=False,
        ).cache.decode_peak_bytes
        for kind in ("dynamic", "static")
    }  # fmt: skip
    one_of_a_layer = 2 * 16 * 4 * 2048 * 4
    assert peaks["dynamic"] - peaks["static"] >= one_of_a_layer // 2


def test_a_cache_is_as_large_as_the_library_really_makes_it():
    # Latent or expanded keys (MLA), sliding windows: whatever a real run leaves behind.
    pytest.importorskip("transformers")
    from torchgauge.fit.workloads import Generation
    from torchgauge.models.spec import build_model, parse_model_spec

    small = {
        "hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 2,
        "num_attention_heads": 4, "vocab_size": 100, "max_position_embeddings": 128,
    }  # fmt: skip
    mla = {
        "moe_intermediate_size": 32, "n_routed_experts": 4, "n_group": 2, "topk_group": 1,
        "num_experts_per_tok": 2, "kv_lora_rank": 16, "q_lora_rank": 16, "qk_rope_head_dim": 8,
        "qk_nope_head_dim": 8, "v_head_dim": 8, "num_key_value_heads": 4,
        "first_k_dense_replace": 1,
    }  # fmt: skip
    for name, settings in (
        ("deepseek_v3", {**small, **mla}),
        ("gemma2", {**small, "num_key_value_heads": 2, "head_dim": 16, "sliding_window": 16}),
    ):
        model = build_model(parse_model_spec(f"hf:{name}", settings), with_weights=True).model
        report = tg.fits(model, device=GPU, context=48, batch_size=2, search=False)
        with torch.no_grad():
            tokens = torch.zeros((2, 48), dtype=torch.int64)
            real = Generation(model.eval(), "dynamic", 48)(tokens[:, :47], tokens[:, :1])
        kept = [tensor for layer in real["cache"] for tensor in layer.values()]
        assert report.cache.cache_bytes == sum(t.numel() * t.element_size() for t in kept), name


def test_the_largest_context_is_bounded_by_the_positions_of_the_model(llama):
    report = tg.fits(llama, device=GPU, context=1000, batch_size=1, alternatives=False)
    found = report.cache.largest_context
    assert found.runs == 4096
    assert not found.is_bound
    assert found.note == "sizes above 4,096 were not tried"


# ---------------------------------------------------------------------------- bad input


def test_an_unknown_device_offers_the_nearest():
    with pytest.raises(DeviceError, match="no device 'RTX 3061'; did you mean RTX 3060"):
        verdict_only(device="RTX 3061")


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"device": []}, UsageError, "no device was named"),
        (
            {"device": "cpu"},
            ScenarioError,
            "`fit` predicts GPU memory; the CPU is not one of its devices",
        ),
        ({"device": "MI300X"}, ScenarioError, "MI300X is not a CUDA device"),
        ({"context": 8}, ScenarioError, "a context belongs to generation"),
        (
            {"context": 8, "scenario": tg.Scenario()},
            UsageError,
            "both an input and a context were given",
        ),
        (
            {"scenario": replace(TRAINING, optimizer="no.such:Optimizer")},
            ScenarioError,
            "the optimizer no.such:Optimizer cannot be imported: No module named 'no'",
        ),
        (
            {"scenario": replace(TRAINING, optimizer="torch.nn:Linear")},
            ScenarioError,
            "torch.nn:Linear is not a torch.optim.Optimizer",
        ),
    ],
)
def test_a_request_that_makes_no_sense_is_refused(options, kind, message):
    with pytest.raises(kind, match=message):
        verdict_only(**options)


def test_an_input_is_needed():
    with pytest.raises(InputError, match="a step needs inputs"):
        tg.fits(Blocks(), device=GPU)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"context": 8}, "Blocks keeps no KV cache"),
        ({"context": 8, "cache": "paged"}, "unknown cache 'paged'"),
    ],
)
def test_a_context_needs_a_language_model(options, message):
    pytest.importorskip("transformers")
    with pytest.raises(UsageError, match=message):
        tg.fits(Blocks(), device=GPU, **options)


def test_a_context_holds_a_prompt_and_a_token(llama):
    with pytest.raises(UsageError, match="a context of 1 has no room for a prompt and a token"):
        tg.fits(llama, device=GPU, context=1)


def test_a_loss_that_does_not_match_the_output_is_refused():
    class Scalar(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(4))

        def forward(self, x):
            return (x * self.weight).sum(-1)

    with pytest.raises(ScenarioError, match=r"cross_entropy needs an output of shape"):
        verdict_only(Scalar(), (4,), batch_size=8, scenario=replace(TRAINING, loss="cross_entropy"))
    with pytest.raises(ScenarioError, match="did not return a tensor with one element"):
        verdict_only(Scalar(), (8, 4), loss=lambda output: output)


def test_a_loss_that_raises_names_its_phase():
    def loss(output):
        return nn.functional.cross_entropy(output, torch.zeros(3, dtype=torch.int64))

    with pytest.raises(ModelError, match="failed in loss") as caught:
        verdict_only(nn.Linear(4, 2), (8, 4), loss=loss)
    assert caught.value.report.failure.phase == "loss"


def test_a_precision_that_the_device_lacks_is_said_with_what_to_take():
    report = verdict_only(device="T4", scenario=replace(TRAINING, precision="bf16"))
    assert any("T4 has no bf16 arithmetic" in text for text in report.warnings)
    assert any("use fp16" in text for text in report.warnings)
    found = fits(device="T4", scenario=TRAINING).alternatives
    assert ("precision fp16-autocast",) in [item.changes for item in found]


def test_a_model_that_fails_is_said_to_fail():
    with pytest.raises(ModelError, match="Linear failed in forward"):
        verdict_only(nn.Linear(3, 2), (8, 4))


# ---------------------------------------------------------------------------- as data


def test_the_answer_is_saved_as_json(tmp_path, report):
    path = tmp_path / "fit.json"
    report.save(path)
    data = json.loads(path.read_text(encoding="utf-8"))
    assert data == report.to_dict()
    assert data["schema_version"] == 1
    assert data["devices"][0]["verdict"] == "fits"
    assert data["devices"][0]["headroom_bytes"] == report.devices[0].headroom_bytes
    assert sum(data["breakdown"].values()) == data["devices"][0]["device_bytes"]
    assert len(data["alternatives"]) == len(report.alternatives)
