"""Texts found in a catalogue: literal, with values, as parts, and what is left alone."""

from __future__ import annotations

import pytest

from torchgauge.language import LANGUAGES, current, preferred, spoken, translated, use
from torchgauge.language.po import Entry, parse, written
from torchgauge.language.translate import Catalogue


def catalogue(*pairs: tuple[str, str]) -> Catalogue:
    return Catalogue([Entry(msgid, msgstr) for msgid, msgstr in pairs])


# ---------------------------------------------------------------------------- the file


def test_a_catalogue_is_read_as_it_was_written():
    entries = [
        Entry("size {1}", "大小 {1}", ("a.py", "b.py")),
        Entry('two\nlines and "quotes" \\ here', "两\n行", ("c.py",)),
        Entry("not yet", ""),
    ]
    assert parse(written("zh", entries)) == entries


def test_comments_and_the_header_are_no_entries():
    text = 'msgid ""\nmsgstr ""\n"Language: zh\\n"\n\n# by hand\n#: a.py\nmsgid "a"\nmsgstr "甲"\n'
    assert parse(text) == [Entry("a", "甲", ("a.py",))]


def test_a_damaged_catalogue_names_the_line():
    with pytest.raises(ValueError, match="line 2 is no part of a catalogue: what"):
        parse('msgid "a"\nwhat is this\n')


def test_what_a_merge_left_is_refused():
    with pytest.raises(ValueError, match="line 3: msgstr is there twice in one entry"):
        parse('msgid "a"\nmsgstr "甲"\nmsgstr "乙"\n')


# ---------------------------------------------------------------------------- texts


def test_values_change_places():
    found = catalogue(("{1} of {2} are free", "{2} 中空闲 {1}"))
    assert found.translated("3.00 GiB of 8.00 GiB are free") == "8.00 GiB 中空闲 3.00 GiB"


def test_the_template_that_explains_most_is_meant():
    found = catalogue(
        ("{1} is not {2}", "{1} 不是 {2}"),
        ("{1} is not a package", "{1} 不是模型包"),
        ("cannot read: {1}", "无法读取：{1}"),
    )
    assert found.translated("out is not a package") == "out 不是模型包"
    assert found.translated("cannot read: out is not a package") == "无法读取：out 不是模型包"


def test_a_value_that_is_a_text_is_translated_too():
    found = catalogue(("failed in {1}: {2}", "{1:text}失败：{2}"), ("forward", "前向"))
    assert found.translated("failed in forward: forward") == "前向失败：forward"


def test_an_error_of_another_program_is_quoted():
    found = catalogue(("{1} cannot be read: {2}", "无法读取 {1}：{2:name}"), ("no such file", "？"))
    assert found.translated("a.pt cannot be read: no such file") == "无法读取 a.pt：no such file"


def test_a_number_or_a_size_is_nothing_else():
    found = catalogue(("{1} layers", "{1:number} 层"), ("inputs {1}", "输入 {1:size}"))
    assert found.translated("1,024 layers") == "1,024 层"
    assert found.translated("wrong layers") == "wrong layers"
    assert found.translated("inputs 1.50 MiB") == "输入 1.50 MiB"
    assert found.translated("inputs [1, 3]") == "inputs [1, 3]"


def test_parts_that_come_and_go():
    found = catalogue(
        ("peak {1} in {2}", "峰值 {1}，在{2:text}"), (" at {1}", "（{1}）"), ("so far ", "至此 "),
        ("backward", "反向"),
    )  # fmt: skip
    assert found.translated("peak 2 B in backward") == "峰值 2 B，在反向"
    assert found.translated("peak so far 2 B in backward at fc") == "峰值 至此 2 B，在反向（fc）"


def test_texts_that_were_joined():
    found = catalogue(("no states", "没有状态"), ("too small", "太小"), (": ", "："), ("; ", "；"))
    assert found.translated("adafactor: no states") == "adafactor：没有状态"
    assert found.translated("no states; too small") == "没有状态；太小"
    assert found.translated("x [2, 3]: 5") == "x [2, 3]: 5"


def test_lines_and_indentation_stay():
    found = catalogue(("not counted: {1}", "未计入：{1}"), ("it is incomplete{1}", "不完整{1}"))
    text = "it is incomplete\n  not counted: aten.x\n  not counted: aten.y"
    assert found.translated(text) == "不完整\n  未计入：aten.x\n  未计入：aten.y"


def test_a_capital_and_a_full_stop_do_not_hide_a_text():
    found = catalogue(("install {1} again", "重新安装 {1}"), ("(.)", "？"), (".", "。"))
    assert found.translated("Install torch again.") == "重新安装 torch。"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "layer1.0.conv1",
        "features.0 (Conv2d)",
        "x [B, 3, 224, 224] float32, B = 1",
        "expected scalar type Float but found Half in layer 3",
        "the values of the model are not what another program says",
        "12.25 MiB",
    ],
)
def test_what_is_no_text_of_the_program_stays(text):
    with spoken("zh"):
        assert translated(text) == text


def test_an_untranslated_text_stays_english():
    assert catalogue(("known text", "")).translated("known text") == "known text"


def test_braces_are_written_twice():
    found = catalogue(("write {{'a': {1}}}", "写 {{'a': {1}}}"))
    assert found.translated("write {'a': 3}") == "写 {'a': 3}"


@pytest.mark.parametrize(
    "source",
    [
        "Chen et al., Training Deep Nets with Sublinear Memory Cost, arXiv 1604.06174",
        "He, Sun, CNNs at Constrained Time Cost, arXiv 1412.1710, section 3",
        "Ansel et al., PyTorch 2, ASPLOS 2024",
    ],
)
def test_the_title_of_a_source_stays(source):
    found = catalogue((" with {1}", "（{1}）"), ("{1} at {2}", "{2} 的 {1}"), (", ", "，"))
    assert found.translated(source) == source


# ---------------------------------------------------------------------------- the language


def test_a_language_is_spoken_for_a_while():
    assert current() == "en"
    with pytest.raises(RuntimeError), spoken("zh"):
        assert translated("not called") == "未调用"
        raise RuntimeError
    assert current() == "en"
    assert translated("not called") == "not called"


def test_there_is_no_other_language():
    with pytest.raises(ValueError, match="unknown language 'fr'; one of en, zh"):
        use("fr")
    assert current() in LANGUAGES


@pytest.mark.parametrize(
    ("environment", "language"),
    [
        ({}, "en"),
        ({"LANG": "zh_CN.UTF-8"}, "zh"),
        ({"LANG": "C", "LANGUAGE": "zh"}, "en"),
        ({"LANG": "en_US.UTF-8", "LANGUAGE": "zh_TW:en"}, "zh"),
        ({"LANG": "zh_CN.UTF-8", "LC_ALL": "de_DE.UTF-8"}, "en"),
        ({"LANG": "zh_CN.UTF-8", "LC_MESSAGES": "en_US.UTF-8"}, "en"),
        ({"LANG": "en_US.UTF-8", "TORCHGAUGE_LANG": "zh"}, "zh"),
        ({"LANG": "zh_CN.UTF-8", "TORCHGAUGE_LANG": "en"}, "en"),
    ],
)
def test_the_environment_chooses(environment, language):
    assert preferred(environment) == language
