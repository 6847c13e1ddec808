"""Columns beside a conversation, and options of a template: what would change the model's view is named."""

import json

import datasets
import polars as pl
import pytest
from test_conversations import TEMPLATE, TURNS, chat_model, config, folder  # noqa: F401

from exptilt.conversation import Template
from exptilt.data import in_memory
from exptilt.engines import registry
from exptilt.errors import ConfigError, ModelError, PromptError
from exptilt.models import template_names
from exptilt.models.reference import SERVED, ModelRef
from exptilt.planning.plan import prepare

TOOL = [{"type": "function", "function": {"name": "add"}}]
SHOWS_TOOLS = "{% if tools %}b{% endif %}" + TEMPLATE


@pytest.fixture(scope="module")
def with_tools(tmp_path_factory) -> str:
    """A model whose chat template shows tools."""
    return chat_model(tmp_path_factory.mktemp("tools") / "small", SHOWS_TOOLS)


REFUSED = {
    "tools": (TOOL, "has 'tools' beside it, which the chat template shows: drop the column"),
    "functions": (json.dumps(TOOL), "has 'functions' beside it, which the chat template shows"),
    "images": ([{"bytes": "x", "path": None}], "has 'images' beside it, and only texts are supported"),
    "system": ("be brief", "has 'system' beside it, which is no turn of it: put it into the conversation"),
    "chat_template_kwargs": ({"think": False}, "by --template-options, and drop the column"),
}
NOTHING = [None, [], "", "[]", {}, [None], False]


@pytest.mark.parametrize("name", REFUSED)
def test_a_column_that_the_model_would_see_is_named(config, with_tools, name):  # noqa: F811
    value, said = REFUSED[name]
    rows = [{"messages": TURNS[0], name: None}, {"messages": TURNS[1], name: value}]
    with pytest.raises(PromptError, match="prompt 1 has") as stopped:
        prepare(config(rows, basemodel=with_tools))
    assert said in str(stopped.value)
    left_out = prepare(config(rows, basemodel=with_tools, on_long_prompt="skip")).skipped
    assert list(left_out) == [1]


@pytest.mark.parametrize("name", REFUSED)
def test_what_holds_nothing_or_is_no_conversations_is_let_be(config, with_tools, name):  # noqa: F811
    rows = [{"messages": TURNS[0], name: value} for value in NOTHING]
    assert prepare(config(rows, basemodel=with_tools)).n_prompts == len(NOTHING)
    texts = [{"prompt": "abc", name: REFUSED[name][0]}]
    assert prepare(config(texts, basemodel=with_tools)).n_prompts == 1
    with pytest.raises(PromptError, match=f"prompt 0 has '{name}'"):
        prepare(config(texts, basemodel=with_tools, chat=True))


def test_tools_count_where_the_template_shows_them_and_a_system_text_where_it_is_no_turn(config):  # noqa: F811
    assert prepare(config([{"messages": TURNS[0], "tools": TOOL, "functions": TOOL}])).n_prompts == 1
    assert prepare(config([{"messages": TURNS[1], "system": "fed "}])).n_prompts == 1
    with pytest.raises(ModelError, match=r"^prompts are conversations .* has no chat template"):
        prepare(config([{"messages": TURNS[0], "tools": TOOL}], basemodel="toy"))


@pytest.mark.parametrize("ending", ["parquet", "csv", "saved", "frame"])
def test_columns_beside_are_seen_in_every_kind_of_table(config, with_tools, tmp_path, ending):  # noqa: F811
    path, turns = str(tmp_path / f"a.{ending}"), [TURNS[0], TURNS[0]]
    table = pl.DataFrame({"messages": turns, "tools": [None, json.dumps(TOOL)]})
    match ending:
        case "parquet":
            table.write_parquet(path)
        case "saved":
            datasets.Dataset.from_list(table.to_dicts()).save_to_disk(path)
        case "csv":
            asked = ["\n\nHuman: a\n\nAssistant: b", "\n\nHuman: c\n\nAssistant: d"]
            table.with_columns(messages=pl.Series(asked)).write_csv(path)
        case "frame":
            path = in_memory.prompt_file(table, "prompt", str(tmp_path))
    with pytest.raises(PromptError, match="prompt 1 has 'tools' beside it"):
        prepare(config([], basemodel=with_tools, data=path))


def test_an_option_that_the_template_does_not_read_is_named(config, tmp_path):  # noqa: F811
    row = [{"messages": TURNS[0]}]
    for wrong in ("thnk=false", "m=1", "messages=1", "tokenize=true", "add_generation_prompt=false"):
        with pytest.raises(ConfigError) as stopped:
            prepare(config(row, template_options=wrong))
        said = f"--template-options {wrong.partition('=')[0]}: the chat template does not read it; it reads "
        assert str(stopped.value) == f"{said}think"
    (tmp_path / "t.jinja").write_text("{{ messages[0].content }}{{ bos_token }}")
    own = {"chat_template": str(tmp_path / "t.jinja")}
    with pytest.raises(ConfigError, match=r"it reads bos_token$"):
        prepare(config(row, template_options="think=false", **own))
    assert prepare(config(row, template_options="bos_token=a", **own)).n_prompts == 1


def test_of_a_servers_templates_only_one_that_is_given_is_known():
    model = ModelRef(name="x", source="x", revision=SERVED, engine="openai")
    options = (("thnk", False),)
    assert registry.chat_digest(model, Template("", options)) != "server"
    assert registry.template_names(model, Template("", options)) is None
    with pytest.raises(ConfigError, match=r"^--template-options thnk: .* it reads think$"):
        registry.chat_digest(model, Template(TEMPLATE, options))


def test_options_without_a_template_are_named(config, tmp_path):  # noqa: F811
    with pytest.raises(ConfigError, match=r"^--template-options: prompts are texts, and no template is fill"):
        prepare(config([{"prompt": "abc"}], template_options="think=false"))
    (tmp_path / "t.jinja").write_text(TEMPLATE)
    with pytest.raises(ConfigError, match=r"^--chat-template: prompts are texts"):
        prepare(config([{"prompt": "abc"}], chat_template=str(tmp_path / "t.jinja")))


def test_errors_of_templates_name_what_was_asked_for(config, tmp_path):  # noqa: F811
    with pytest.raises(
        ModelError, match=r"^prompts are conversations in column 'messages': the tokenizer of"
    ):
        prepare(config([{"messages": TURNS[0]}], basemodel="demo"))
    (tmp_path / "t.jinja").write_text("{{ raise_exception('no') }}")
    with pytest.raises(ModelError, match=r"^the --chat-template, for '.*' fails: no$"):
        prepare(config([{"messages": TURNS[0]}], chat_template=str(tmp_path / "t.jinja")))
    strict = chat_model(
        tmp_path / "strict", "{% if messages[0].content != 'prompt' %}{{ 1 + 'a' }}{% endif %}"
    )
    with pytest.raises(PromptError, match=r"^prompt 0 \('abc'\): the chat template of '.*strict' fails: "):
        prepare(config([{"messages": TURNS[0]}], basemodel=strict))


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("{%- if not date is defined %}{% set date = strftime_now('%d') %}{% endif %}{{ date }}", {"date"}),
        (
            "{% set think = think | default(true) %}{% for m in messages %}{{ m }}{% endfor %}",
            {"think", "messages"},
        ),
        ("{% set a = 1 %}{{ a }}{% macro f(x) %}{{ x }}{{ inner }}{% endmacro %}{{ f(1) }}", {"inner"}),
        ("{% for x in y %}{%- generation %}{{ x }}{% endgeneration -%}{% break %}{% endfor %}", {"y"}),
        ("{# note #}{{ namespace(a=1).a }}{{ 'word' }}", set()),
        ("{{ not closed", {"not", "closed"}),
    ],
)
def test_a_template_reads_what_it_does_not_set(text, names):
    assert template_names.names_read(text) == names
