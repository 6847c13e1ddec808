"""λ by value: every way to write a --lam binds each number to its value, whatever the order."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exptilt.config import lam as lams
from exptilt.config import lambda_grid
from exptilt.config.command_line import command_line
from exptilt.config.exploration import Palette, Sweep
from exptilt.config.settings import MCAligned
from exptilt.config.validation import build
from exptilt.errors import ConfigError
from exptilt.models.devices import Devices
from exptilt.rewards import column_of
from exptilt.run import Run
from exptilt.stages.recipe import Recipe

LETTERS = st.text("abcdefghij", min_size=1, max_size=6)
PREFIX = st.one_of(st.just(""), LETTERS.map("{}=".format))
FUNCTIONS = st.builds("{}{}.py:{}".format, PREFIX, LETTERS, LETTERS)
MODELS = st.builds(
    "{}=org/{}{}{}".format,
    LETTERS,
    LETTERS,
    st.one_of(st.just(""), LETTERS.map("#{}".format)),
    st.sampled_from(["", ":prob", ":logprob"]),
)
VALUES = st.lists(FUNCTIONS | MODELS, min_size=1, max_size=4, unique_by=column_of)
NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
TONE = "tone=org/model#joy:prob"


@given(VALUES, st.data())
def test_each_number_goes_to_its_value_in_any_order_and_by_either_name(values, data):
    numbers = {value: data.draw(NUMBERS) for value in values}
    written = data.draw(st.permutations(values))
    columns = lams.columns_of(values)
    names = [data.draw(st.sampled_from([value, columns[value]])) for value in written]
    spec = ",".join(f"{name}={numbers[value]!r}" for name, value in zip(names, written, strict=True))
    found = lams.in_order(lams.named(spec), values)
    assert [float(number) for number in found] == list(numbers.values())
    (vector,) = lambda_grid.vectors([spec], values, 0)
    assert vector == {columns[value]: number for value, number in numbers.items()}


@given(VALUES, st.data())
def test_a_mapping_is_what_it_writes(values, data):
    mapping = {value: data.draw(NUMBERS) for value in values}
    found = lams.named(lams.text(mapping))
    assert {name: float(number) for name, number in found.items()} == mapping


@given(VALUES.filter(lambda values: len(values) > 1))
def test_values_that_differ_are_refused(values):
    given = {value: "1" for value in values}
    for fewer, more in ((given, values[1:]), ({values[0]: "1"}, values)):
        with pytest.raises(ConfigError, match="--lam and --value name different values"):
            lams.in_order(fewer, more)


@pytest.mark.parametrize(
    "argv",
    [
        ["--lam", "humor=-0.5,positive=2"],
        ["--lam", "humor=-0.5", "--lam", "positive=2"],
        ["--lam", "positive=2,humor=-0.5", "--value", "humor,positive"],
        ["--lam", "positive=2,humor=-0.5", "--value", "humor", "--value", "positive"],
        ["--lam", "-0.5,2", "--value", "humor,positive"],
    ],
)
def test_the_command_line_takes_names_and_numbers(argv):
    config = command_line(MCAligned, argv)
    assert (config.value, config.lam) == (("humor", "positive"), (-0.5, 2.0))
    assert config.tilt == {"humor": -0.5, "positive": 2.0}
    assert command_line(Sweep, argv).vectors[-1].keys() == config.tilt.keys()


def test_a_file_of_settings_takes_a_table(tmp_path):
    (tmp_path / "c.toml").write_text(f'[lam]\n"{TONE}" = 2\nhumor = -0.5\n')
    config = command_line(MCAligned, ["--config", str(tmp_path / "c.toml")])
    assert config.tilt == {"tone:prob": 2.0, "humor": -0.5}
    assert config.value == (TONE, "humor")


def test_the_settings_stay_two_lists_in_the_values_order():
    """Manifests and a flow run's parameters keep the form that they had, and give the same configuration."""
    config = build(MCAligned, {"lam": {"positive": 2, "humor": -0.5}, "value": "all"})
    settings = config.model_dump()
    assert (settings["value"], settings["lam"]) == (("all",), (-0.5, 2.0))
    assert build(MCAligned, settings) == config
    recipe = Recipe(config=config, p0=None, rewards=(), devices=Devices(["cpu"]), name="x", run=Run())
    assert recipe.lam == {"humor": -0.5, "positive": 2.0}


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"lam": "humor=1", "value": "humor,positive"}, "--lam has humor, --value has humor,positive"),
        ({"lam": "humor=1,positive=1", "value": "humor"}, "--lam has humor,positive, --value has humor"),
        (
            {"lam": "humor=1,2", "value": "humor,positive"},
            "--lam humor=1,2: write NAME=λ once",
        ),
        ({"lam": "humor=1", "value": "humor,a=b=c"}, "unknown value 'a=b=c'"),
        ({"lam": "humor=1", "value": "humor,humor"}, "a value is named twice"),
        ({"lam": "humor=1,humor=2"}, "--lam humor=1,humor=2: write NAME=λ once"),
        ({"lam": "humor="}, "--lam humor=: write NAME=λ once"),
        ({"lam": "=1"}, "--lam =1: write NAME=λ once"),
        ({"lam": "wit=1"}, "unknown value 'wit'"),
        ({"lam": TONE}, "got 'org/model#joy:prob'"),
        ({"lam": f"{TONE}=1,tone:prob=2", "value": TONE}, "--lam and --value name different values"),
        ({"lam": "humor=inf"}, "--lam must be finite numbers, not inf"),
    ],
)
def test_what_binds_no_number_to_a_value_is_refused_in_one_line(settings, text):
    with pytest.raises(ConfigError) as refused:
        build(MCAligned, settings)
    assert text in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_sweep_without_values_takes_those_that_it_names():
    found = build(Sweep, {"lam": {"humor": "0:2:1", "positive": 1}})
    assert found.vectors == [{"humor": float(h), "positive": 1.0} for h in range(3)]
    assert found.lams[0] == {"humor": 0.0, "positive": 0.0}
    one = build(Sweep, {"lam": f"{TONE}=0:1:1", "value": f"{TONE},humor"})
    assert one.vectors == [{"tone:prob": 0.0, "humor": 0.0}, {"tone:prob": 1.0, "humor": 0.0}]
    with pytest.raises(ConfigError, match=r"'positive' is not one of the values \(humor\)"):
        build(Sweep, {"lam": "positive=1", "value": "humor"})


def test_a_palette_takes_a_value_by_either_name():
    for target in (f"{TONE}=+0.1", "tone:prob=+0.1"):
        palette = build(Palette, {"target": target, "value": TONE})
        assert [each.value for each in palette.targets] == ["tone:prob"]
    assert build(Palette, {"target": f"{TONE}=+0.1"}).columns == ["tone:prob"]
