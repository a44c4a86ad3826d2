"""The vocabularies of ``torchinfo``; everywhere a member is asked for, its string works too."""

from __future__ import annotations

from enum import IntEnum, StrEnum, unique


@unique
class Mode(StrEnum):
    """How the model runs while it is summarized."""

    TRAIN = "train"
    EVAL = "eval"
    SAME = "same"
    """As the model is set: ``model.training``."""


@unique
class RowSettings(StrEnum):
    """What a row shows beside its layer."""

    DEPTH = "depth"
    VAR_NAMES = "var_names"
    ASCII_ONLY = "ascii_only"
    HIDE_RECURSIVE_LAYERS = "hide_recursive_layers"


@unique
class ColumnSettings(StrEnum):
    """The columns that a table can have."""

    KERNEL_SIZE = "kernel_size"
    GROUPS = "groups"
    INPUT_SIZE = "input_size"
    OUTPUT_SIZE = "output_size"
    NUM_PARAMS = "num_params"
    PARAMS_PERCENT = "params_percent"
    MULT_ADDS = "mult_adds"
    TRAINABLE = "trainable"


@unique
class Units(StrEnum):
    """Decimal units of the lines below the table."""

    AUTO = "auto"
    KILOBYTES = "k"
    MEGABYTES = "M"
    GIGABYTES = "G"
    TERABYTES = "T"
    NONE = ""


@unique
class Verbosity(IntEnum):
    """How much is printed."""

    QUIET = 0
    DEFAULT = 1
    VERBOSE = 2
