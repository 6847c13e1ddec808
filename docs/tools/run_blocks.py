"""Run the code of the documentation's pages, each page in a folder of its own, and compare what it prints.

    python docs/tools/run_blocks.py [PAGE.md ...]        # all pages if none

Exit code 1 where a block fails or prints something else; at the end stands what was not run, and why.
"""

import contextlib
import doctest
import io
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from blocks import OUTPUT, Block, blocks

from exptilt.process_setup import set_up

ROOT: Final = Path(__file__).parents[2]
DOCS: Final = ROOT / "docs"
CHECKOUT: Final = ("flows", "tasks", "gendata.py", "pyproject.toml", "benchmarks", "deployments")
LONGEST: Final = 600  # seconds that a block may take
SAME: Final = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def main() -> int:
    """The exit code: 1 if a page's code does not do what the page says."""
    set_up()
    pages = [Path(name).resolve() for name in sys.argv[1:]] or sorted(DOCS.glob("**/*.md"))
    failures = [said for page in pages for said in failed(page)]
    for page in pages:
        for block in blocks(page):
            if block.why:
                print(f"not run: {os.path.relpath(page, ROOT)}:{block.line}: {block.why}")
    print(*failures, sep="\n", file=sys.stderr)
    return 1 if failures else 0


def failed(page: Path) -> Iterator[str]:
    """What does not hold of the blocks of `page`; the first that fails ends it."""
    listed = blocks(page)
    if not any(block.is_run for block in listed):
        return
    print(f"{os.path.relpath(page, ROOT)}: {sum(block.is_run for block in listed)} blocks", flush=True)
    with tempfile.TemporaryDirectory(prefix="exptilt-docs-") as folder:
        for name in CHECKOUT:
            (Path(folder) / name).symlink_to(ROOT / name)
        said = _run_all(page, listed, Path(folder))
    if said:
        yield said


def _run_all(page: Path, listed: list[Block], folder: Path) -> str:
    """What is wrong with the first block that fails, "" if none."""
    printed = ""
    names: dict[str, object] = {}
    for block in listed:
        place = f"{os.path.relpath(page, ROOT)}:{block.line}"
        if block.title and not block.why:
            (folder / block.title).write_text(block.code, encoding="utf-8")
        elif block.is_run:
            try:
                printed = RUNNERS[block.language](block.code, folder, names)
            except Exception as error:
                return f"{place}: {type(error).__name__}: {error}"
        elif block.language == OUTPUT and not block.why and not _same(block.code, printed):
            return f"{place}: the page says\n{block.code}\nbut the block before printed\n{printed}"
    return ""


def _sh(code: str, folder: Path, _: dict[str, object]) -> str:
    """What commands print; RuntimeError where one fails."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-eu", "-c", code],
        cwd=folder,
        env={**os.environ, "PATH": path, "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        timeout=LONGEST,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"exit code {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def _python(code: str, folder: Path, names: dict[str, object]) -> str:
    """What code prints that goes on with `names`."""
    printed = io.StringIO()
    with contextlib.chdir(folder), contextlib.redirect_stdout(printed):
        exec(compile(code, "block", "exec"), names)
    return printed.getvalue()


RUNNERS: Final = {"sh": _sh, "python": _python}


def _same(said: str, printed: str) -> bool:
    return doctest.OutputChecker().check_output(said, printed, SAME)


if __name__ == "__main__":
    sys.exit(main())
