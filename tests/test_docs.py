"""The documentation keeps up: the reference has every column and field, links lead somewhere."""

import json
import re
import sys
import tomllib
from pathlib import Path

import polars as pl
import pytest
from processes import ROOT

import exptilt
from exptilt.command import RUNS
from exptilt.config.settings import MCAligned
from exptilt.local_run import prepare, run

DOCS = ROOT / "docs"
sys.path.insert(0, str(DOCS / "tools"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A data set with every table."""
    root = tmp_path_factory.mktemp("documented")
    (root / "prompts.txt").write_text("one\ntwo\n")
    config = MCAligned(
        basemodel="toy",
        data=str(root / "prompts.txt"),
        value="diversity",
        lam=(1.0,),
        nsamples=4,
        export="all",
        refine=1,
        save_directory=str(root / "results"),
    )
    return Path(run(prepare(config)).folder)


def test_the_reference_has_every_column_of_every_table_with_its_type(folder):
    from generated import type_name

    described = tomllib.loads((DOCS / "reference" / "columns.toml").read_text())
    tables = {path.relative_to(folder).parts[0]: path for path in sorted(folder.glob("**/*.parquet"))}
    assert set(described) == set(tables)
    for name, path in tables.items():
        found = {
            "NAME" if column == "diversity" else column: type_name(kind)
            for column, kind in pl.read_parquet_schema(path).items()
        }
        assert set(described[name]) == set(found), name
        said = {
            column: column_is["type"] for column, column_is in described[name].items() if "type" in column_is
        }
        assert said.items() <= found.items(), name


def test_the_reference_has_every_field_of_the_manifest(folder):
    manifest = json.loads((folder / "manifest.json").read_text())
    page = (DOCS / "reference" / "manifest.md").read_text()
    named = set(re.findall(r"`([^`]+)`", page))
    known = {part for name in named for part in re.findall(r"\w+", name)}
    free = {"configuration", "made_with", "reused", "cut", "p0"}
    assert _fields(manifest, free) <= known | free


def _fields(said, free):
    """The names of a manifest's fields, but for those below `free` and the names of files."""
    if isinstance(said, list):
        return set().union(*(_fields(each, free) for each in said))
    if not isinstance(said, dict):
        return set()
    fields = {name for name in said if "/" not in name}
    return fields.union(*(_fields(said[name], free) for name in said if name not in free))


def test_every_command_has_a_section():
    page = (DOCS / "reference" / "cli.md").read_text()
    for name in RUNS:
        assert f"\n## {name}\n" in page
        assert f"<!-- generated: flags {name} -->" in page
    assert "<!-- generated: others -->" in page


def test_every_public_name_is_in_the_reference():
    page = (DOCS / "reference" / "python.md").read_text()
    listed = set(re.findall(r"^::: (\S+)$", page, re.MULTILINE))
    names = {f"{getattr(exptilt, name).__module__}.{name}" for name in exptilt.__all__ if name[0] != "_"}
    assert names - listed == {"exptilt.errors.ExptiltError"}  # all errors stand there
    assert "exptilt.errors" in listed


def test_links_of_the_pages_outside_the_site_lead_somewhere():
    for page in ("README.md", "CONTRIBUTING.md", "deployments/README.md"):
        text = (ROOT / page).read_text()
        for target, anchor in re.findall(r"\]\((?!http)([^)#]*)#?([^)]*)\)", text):
            path = (ROOT / page).parent / target
            assert path.exists(), f"{page}: {target}"
            headings = re.findall(r"^#+ (.*)$", path.read_text(), re.MULTILINE) if anchor else []
            assert not anchor or anchor in {_anchor(heading) for heading in headings}, f"{page}: {anchor}"


def _anchor(heading):
    return re.sub(r"[^\w -]", "", heading.lower()).strip().replace(" ", "-")


def test_blocks_that_are_not_run_say_why():
    from blocks import blocks

    for page in DOCS.glob("tutorials/*.md"):
        assert [block for block in blocks(page) if block.why] == [], page


def test_a_page_fails_where_it_says_what_its_code_does_not_print(tmp_path):
    from run_blocks import failed

    page = tmp_path / "page.md"
    code = '```text title="a.txt"\none two\n```\n\n```sh\ncat a.txt\n```\n\n```text\n{}\n```\n'
    page.write_text(code.format("one ..."))
    assert list(failed(page)) == []
    page.write_text(code.format("two ..."))
    assert ["the page says" in said for said in failed(page)] == [True]
    page.write_text("```python\n1 / 0\n```\n")
    assert ["ZeroDivisionError" in said for said in failed(page)] == [True]
    page.write_text("<!-- not run: it fails -->\n```python\n1 / 0\n```\n")
    assert list(failed(page)) == []
