"""The published measurements of time as sections of ``docs/accuracy-tables.md``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from benchmarks.summary import Line, line_of
from benchmarks.time_sets import validation
from benchmarks.time_sets.results import HEAD, phases, row
from benchmarks.time_sets.run import of_set
from benchmarks.time_sets.sets import FILES, NOT_FITTED, SETS

TITLES = {
    "neusight": "NeuSight: language models in fp32 on A100, V100 and T4",
    "neusight L4 and P100": "NeuSight: language models in fp32 on L4 and P100",
    "lambda": "Lambda: training of ResNet-50 and BERT on many GPUs",
    "mpt": "MPT: training in bf16 on A100 and H100, of which nothing was fitted",
}
BESIDE = {
    "timm inference RTX 3090": "A fit of two parameters on GMACs and activations misses by 9–25 % "
    "in the median on such files, a roofline of the datasheet by 57–76 %.",
    "neusight": "NeuSight's own predictions miss by 10.6 % in the mean in inference and 7.4 % in "
    "training, over seven GPUs; a roofline of the datasheet by 31–32 %.",
    "mpt": "The time is one GPU's forward and backward. It excludes the optimizer and FSDP's "
    "communication, which gathers all weights at least twice in each step. So it is too short, "
    "most of all where the GPU is fast and the model large.",
}
_FEWEST = 6
"""Figures that a family needs for a line of its own."""
LIMITS = """\
Where not to trust it:

- *Small steps.* No available measurement waits for the CPU. The cost of Python and dispatch is a
  round number (`dispatch.*` in the coefficients), and CPUs differ by a factor of two. Where
  *launch* is a large share of the step, the stated error is as large.
- *Devices of other makers, and float64* have not been compared.
- *Convolutions in float32 without TF32* (V100, T4): Winograd and FFT kernels do fewer products than
  counted. They have not been compared.
- *Convolutions beyond 2³¹ elements* (VGG at batch 1,024 on an RTX 3090) are split by PyTorch and
  predicted up to 33 % too fast, in training 42 %; normalisation written out in element-wise
  operators (`vit_*_xp`) up to 39 % too slow.
- *Networks of mixed windows, experts and small batched products* (EdgeNeXt, MixNet, CondConv,
  FocalNet) are predicted 10–49 % too fast, LambdaResNet on torch 2.9 50 %, Hiera 31 %,
  EfficientViT-M0 compiled 56 %, PoolFormer and FastViT compiled 30 %, XCiT in training 28 %. Small
  MobileNets and XCiT compiled are predicted up to 32 % too slow.
- *A GPU of which nothing was measured* may sustain more or less of its datasheet than its
  siblings: a V100's fp32 cores a fifth more, and an RTX 3090 would seem 9 % slower than it is.
  `torchgauge devices --measure` replaces the guess.
- *GH200* in Lambda's training is predicted 12 % too fast where its own rows are left out, for a
  cause that is not known.
- *Laptops and boards at other power limits*: the prediction uses the maker's limit.
- *fp8 and int8* use the datasheet's rate and the efficiency of half precision. They have not been
  compared.
- *Many GPUs*: communication is not predicted.
"""


def time_sections(
    data: Path, limit: int | None, cache: Path | None, summed: list[Line]
) -> Iterator[str]:
    """Yield the lines on time; at most ``limit`` cases of each set are predicted."""
    yield from ("## Time on GPUs", "")
    yield (
        "Predicted from a trace, the device's datasheet and the coefficients that `make calibrate` "
        "fits to these sets. The predictions for rows that a fit had not seen are below. "
        "Nothing was run on a GPU."
    )
    yield ""
    for name in SETS:
        yield from (f"### {TITLES.get(name, name)}", "")
        if not (data / FILES[name]).is_file():
            yield from (f"Skipped: `{FILES[name]}` is not beside the repository.", "")
            continue
        yield from _section(name, data, limit, cache, summed)
    yield from _unseen()
    yield from (*LIMITS.splitlines(), "")


def _section(
    name: str, data: Path, limit: int | None, cache: Path | None, summed: list[Line]
) -> Iterator[str]:
    found, missing = of_set(name, data, limit, cache)
    if limit is not None:
        yield from (f"A sample of at most {limit} figures, evenly spread over the file.", "")
    yield from (*HEAD, row("all", found), *phases(found))
    for family in sorted({result.case.family for result in found}):
        members = [result for result in found if result.case.family == family]
        if len(members) >= _FEWEST and len(members) < len(found):
            yield row(family, members)
    if name in NOT_FITTED:
        if found:
            errors = [result.error for result in found]
            summed.append(line_of("time, GPU", TITLES[name], errors))
        yield ""
    else:
        inside = sum(result.is_inside for result in found)
        yield from (
            "",
            f"Within the interval that the prediction states: {inside} of {len(found)}.",
        )
        yield ""
    if name in BESIDE:
        yield from (BESIDE[name], "")
    if missing:
        yield from ("Not predicted:", "", *(f"- {line}" for line in missing), "")


def _unseen() -> Iterator[str]:
    """Yield what the last calibration found on rows left out."""
    rows = validation.read()
    if not rows:
        return
    yield from ("### Rows that the fit had not seen", "")
    yield (
        "By `make calibrate`, only the kernels on the GPU. *Families left out*: five fits, each "
        "without a fifth of the architectures, which it then predicts. *Device left out*: a fit "
        "without the device's rows (of compiled steps, which nearly all are of one GPU, the ratios "
        "to eager kernels come from fits without the row's family). *Stated*: the median of the "
        "errors that the predictions state; *inside*: how many rows are within them."
    )
    yield from ("", "| set | fit | figures | median | mean | 90th percentile | bias | Spearman |"
                    " stated | inside |", "|---|---|--:|--:|--:|--:|--:|--:|--:|--:|")  # fmt: skip
    for found in rows:
        how = f"{found.fit}: {found.left_out}" if found.left_out else found.fit
        yield (
            f"| {TITLES.get(found.set, found.set)} | {how} | {found.rows} | {found.median:.1%} | "
            f"{found.mean:.1%} | {found.p90:.1%} | {found.bias:+.1%} | {found.spearman:.3f} | "
            f"{found.stated:.1%} | {found.covered:.0%} |"
        )
    yield ""
