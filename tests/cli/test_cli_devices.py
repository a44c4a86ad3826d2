"""``torchgauge devices``: the list, the search, the formats, the GPUs of this machine."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import stat

import pytest

from torchgauge.cli.main import main
from torchgauge.devices import Device, all_devices
from torchgauge.devices.catalog import LocalGpu
from torchgauge.trace import local_gpus as reader

FAKE_OUTPUT = (
    "0, GPU-11aa, NVIDIA GeForce RTX 3060, 12288, 11000\n1, GPU-22bb, Tesla T4, 15360, 15000\n"
)


@pytest.fixture(autouse=True)
def no_user_files_and_no_gpu(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setattr(reader, "_NODES", ())
    for name in ("TORCHGAUGE_DEVICES", "CUDA_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def nvidia_smi(tmp_path):
    """Put an ``nvidia-smi`` on the path that prints what it is given."""

    def make(output: str = FAKE_OUTPUT, status: int = 0) -> None:
        program = tmp_path / "bin" / "nvidia-smi"
        program.parent.mkdir(exist_ok=True)
        program.write_text(f"#!/bin/sh\nprintf '%s' '{output}'\nexit {status}\n")
        program.chmod(program.stat().st_mode | stat.S_IXUSR)

    return make


def run(capsys, *arguments: str) -> tuple[int, str, str]:
    status = main(["devices", *arguments])
    shown = capsys.readouterr()
    return status, shown.out, shown.err


def test_the_whole_list_at_80_columns(capsys):
    status, out, err = run(capsys, "--width", "80")
    assert status == 0
    lines = out.splitlines()
    assert lines[2] == " GPUs here  none found on this machine"
    assert max(map(len, lines)) <= 80
    assert not [line for line in lines if line != line.rstrip()]
    for device in all_devices():
        assert any(line.startswith(f" {device.name}") for line in lines), device.name
    assert f"{len(all_devices())} of {len(all_devices())} devices" in out
    assert "left out at 80 columns: " in out
    assert err == "note: add your own devices in torchgauge-devices.toml\n"


def test_at_200_columns_nothing_is_left_out(capsys):
    _, out, _ = run(capsys, "--width", "200")
    assert max(map(len, out.splitlines())) <= 200
    assert "left out" not in out
    header = out.splitlines()[5]
    for title in ("Usable", "Bandwidth", "CC", "bf16", "int8", "SMs", "TDP", "Released"):
        assert title in header


def test_a_row_says_what_is_measured_by_rule_and_lacking(capsys):
    _, out, _ = run(capsys, "t4", "--quiet", "--width", "80")
    row = next(line for line in out.splitlines() if line.startswith(" T4"))
    assert row.split() == [
        "T4", "datacenter", "14.75", "GiB", "320", "GB/s", "7.5", "8.14", "none", "65", "none",
        "none",
    ]  # fmt: skip
    _, out, _ = run(capsys, "4090", "laptop", "--quiet")
    assert "~165" not in out
    assert "~15.74 GiB" in out


def test_a_narrow_table_keeps_the_names_and_fits(capsys):
    _, out, _ = run(capsys, "orin", "--width", "40", "--quiet")
    assert max(map(len, out.splitlines())) <= 40
    assert "Jetson AGX Orin 64GB" in out


def test_ascii_is_ascii(capsys):
    _, out, _ = run(capsys, "--ascii")
    assert out.isascii()


def test_a_search_has_every_word(capsys):
    _, out, _ = run(capsys, "jetson", "orin", "nano", "--quiet", "--format", "csv")
    names = [row["name"] for row in csv.DictReader(io.StringIO(out))]
    assert names == ["Jetson Orin Nano 4GB", "Jetson Orin Nano 8GB", "Jetson Orin Nano Super"]


def test_a_search_may_be_a_spelling_of_a_name(capsys):
    _, out, _ = run(capsys, "NVIDIA GeForce RTX 3060", "--format", "json", "--quiet")
    assert [device["name"] for device in json.loads(out)["devices"]] == ["RTX 3060 12GB"]


def test_a_search_without_result_offers_the_nearest(capsys):
    status, out, err = run(capsys, "RTX", "3065")
    assert (status, out) == (2, "")
    assert err == (
        "torchgauge: error: there is no device 'RTX 3065'; "
        "did you mean RTX 3060 12GB, RTX 3060 Ti or RTX 5060?\n"
        "  try: `torchgauge devices` lists them all\n"
    )


def test_json_has_every_field_of_every_device(capsys):
    _, out, _ = run(capsys, "--format", "json", "--quiet")
    content = json.loads(out)
    assert content["schema_version"] == 1
    assert content["local_gpus"] == []
    assert len(content["devices"]) == len(all_devices())
    fields = {field.name for field in dataclasses.fields(Device)}
    for row in content["devices"]:
        assert set(row) == fields | {"usable_is_measured"}
    t4 = next(row for row in content["devices"] if row["name"] == "T4")
    assert t4["compute_capability"] == [7, 5]
    assert t4["lacks"] == ["tf32", "bf16", "fp8"]
    assert t4["usable_memory_bytes"] == 15835594752
    assert t4["released"] == "2018-09-13"


def test_csv_has_every_field(capsys):
    _, out, _ = run(capsys, "t4", "--format", "csv", "--quiet")
    (row,) = csv.DictReader(io.StringIO(out))
    assert row["compute_capability"] == "7.5"
    assert row["lacks"] == "tf32; bf16; fp8"
    assert row["bandwidth_bytes_per_second"] == "320000000000.0"


def test_markdown_and_latex_have_the_table(capsys):
    _, out, _ = run(capsys, "h100", "--format", "markdown", "--quiet")
    assert "| Device | Kind | Usable |" in out
    assert "| H100-SXM | datacenter | 79.19 GiB | 3,350 GB/s | 9.0 |" in out
    _, out, _ = run(capsys, "h100", "--format", "latex", "--quiet")
    assert r"  H100-SXM & datacenter & 79.19 GiB & 3,350 GB/s & 9.0 &" in out
    assert len([line for line in out.splitlines() if line.endswith(r" \\")]) == 4


@pytest.mark.parametrize(
    "name", ["list.json", "list.csv", "list.md", "list.tex", "list.txt", "list.html"]
)
def test_the_suffix_of_the_output_chooses_the_format(capsys, tmp_path, name):
    status, out, _ = run(capsys, "t4", "--output", str(tmp_path / name), "--quiet")
    assert (status, out) == (0, "")
    assert "T4" in (tmp_path / name).read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--format", "htlm"], "unknown name 'htlm'; did you mean html?"),
        (["--format", "json", "--width", "100"], "--width has no meaning in json"),
        (["--format", "csv", "--ascii"], "--ascii has no meaning in csv"),
        (["--output", "list.xyz"], "does not say which format it wants"),
        (["--output", "no/such/list.csv"], "there is no folder no/such"),
        (["--colour"], "unknown argument '--colour'"),
    ],
)
def test_bad_usage(capsys, arguments, message):
    status, out, err = run(capsys, *arguments)
    assert (status, out) == (2, "")
    assert message in err


def test_strict_names_what_a_rule_gives(capsys):
    status, out, err = run(capsys, "rtx", "3090", "--strict", "--quiet")
    assert status == 4
    assert "RTX 3090" in out
    assert "  RTX 3090 Ti: bf16_flops_per_second," in err
    status, _, err = run(capsys, "h200-sxm", "--strict", "--quiet")
    assert (status, err) == (0, "")


def test_a_bad_file_of_devices_is_said(capsys, tmp_path):
    (tmp_path / "torchgauge-devices.toml").write_text("[[device]]\nmemory_gib = 8\n")
    status, out, err = run(capsys)
    assert (status, out) == (2, "")
    assert "torchgauge-devices.toml: device 1: name: missing" in err


# ---------------------------------------------------------------------------- GPUs of this machine


def test_the_gpus_of_this_machine_come_first(capsys, nvidia_smi):
    nvidia_smi()
    _, out, _ = run(capsys, "t4", "--width", "200", "--quiet")
    assert out.splitlines()[2:4] == [
        " GPU 0 here  NVIDIA GeForce RTX 3060 (RTX 3060 12GB in this list) · "
        "10.74 GiB of 12.00 GiB free · read with nvidia-smi",
        " GPU 1 here  Tesla T4 (T4 in this list) · 14.65 GiB of 15.00 GiB free "
        "· read with nvidia-smi",
    ]
    _, out, _ = run(capsys, "t4", "--format", "json", "--quiet")
    first = json.loads(out)["local_gpus"][0]
    assert first["device"] == "RTX 3060 12GB"
    assert first["free_bytes"] == 11000 << 20


@pytest.mark.parametrize(
    ("visible", "names"),
    [
        ("1", ["Tesla T4"]),
        ("GPU-11", ["NVIDIA GeForce RTX 3060"]),
        ("", []),
        ("-1", []),
        ("0,1", ["NVIDIA GeForce RTX 3060", "Tesla T4"]),
    ],
)
def test_visible_devices_are_honoured(nvidia_smi, monkeypatch, visible, names):
    nvidia_smi()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert [gpu.name for gpu in reader.local_gpus()] == names


@pytest.mark.parametrize(
    ("output", "status"),
    [("NVIDIA-SMI has failed because it could not talk to the driver", 9), ("garbage", 0)],
)
def test_a_driver_in_trouble_is_no_gpu(nvidia_smi, output, status):
    nvidia_smi(output, status)
    assert reader.local_gpus() == ()


def test_torch_is_asked_where_nvidia_smi_says_nothing(nvidia_smi, monkeypatch):
    """A board whose GPU shares memory gives [N/A]; torch knows, where its driver is there."""
    nvidia_smi("0, GPU-1, NVIDIA Thor, [N/A], [N/A]\n")
    said = LocalGpu(
        index=0, name="NVIDIA Thor", total_bytes=1, free_bytes=1, read_with="torch.cuda"
    )
    monkeypatch.setattr(reader, "_from_torch", lambda: (said,))
    assert reader.local_gpus() == ()
    monkeypatch.setattr(reader, "_NODES", ("/dev/null",))
    assert reader.local_gpus() == (said,)


def test_an_unknown_gpu_is_shown_all_the_same(capsys, nvidia_smi):
    nvidia_smi("0, GPU-1, NVIDIA Future 1, 1024, [N/A]\n")
    _, out, _ = run(capsys, "t4", "--width", "200")
    assert (
        " GPU 0 here  NVIDIA Future 1 (not in this list) · 1.00 GiB, free memory not known"
    ) in out
