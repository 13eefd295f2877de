"""What is known of a checkout before anything runs: which cell has the parameters, which pages there are, and how they begin."""

import re

import pytest

from effnotes.runner.errors import UsageError
from effnotes.runner.project import Chapter, Profile, Project
from effnotes.runner.site import check_pages

NUMBER = '# %% tags=["parameters"]\nn: int = 1  # a number\n'


def chapter(source: str) -> Chapter:
    return Chapter("x", "book/x", source)


@pytest.mark.parametrize(
    "source", [NUMBER, '# %% {"tags": ["parameters"]}\nn: int = 1\n', '#%% {"tags":["hide-input","parameters"]}\nn: int = 1\n']
)
def test_parameters_are_those_of_the_cell_that_papermill_finds(source):
    from papermill.utils import find_first_tagged_cell_index

    assert chapter(source).parameters["n"].default == 1
    notebook = chapter("# %%\nbefore = 1\n\n" + source).notebook()
    for cell in notebook.cells:
        cell.metadata.setdefault("tags", [])
    assert find_first_tagged_cell_index(notebook, "parameters") == 1


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ('# %% [markdown] tags=["parameters"]\n# # A chapter\n\n' + NUMBER, "markdown cell '# A chapter' is tagged 'parameters'"),
        (NUMBER + '\n# %% [raw] {"tags": ["parameters"]}\n# x\n', "raw cell"),
        (NUMBER + '\n# %% tags=["injected-parameters"]\nm = 2\n', "'injected-parameters', which is for what papermill adds"),
        ('# %% [markdown] tags=["papermill-error-cell-tag"]\n# x\n', "which is for what papermill adds"),
        ('# %% tags="hyperparameters"\nm = 2\n', "cannot be read as py:percent .'hyperparameters' is not of type 'array'"),
        (NUMBER.replace('["', '["skip-execution", "'), "'skip-execution', too; it has to run"),
        (NUMBER + NUMBER, "2 cells tagged 'parameters'; one is allowed"),
    ],
)
def test_tags_that_would_be_read_otherwise_are_refused(source, said):
    with pytest.raises(UsageError, match=f"book/x.py.*{said}"):
        _ = chapter(source).parameters


def test_a_tag_that_would_lose_a_value_is_refused_by_the_command(book):
    book.edit("addition", "# %% [markdown]\n", '# %% [markdown] tags=["parameters"]\n')
    result = book.in_process("run", "addition", "-p", "first=5")
    assert (result.returncode, (book.root / "_build").exists()) == (2, False)
    assert "markdown cell '# Addition'" in result.stdout


def with_toc(book, *entries: str, **files: str) -> Project:
    for name, text in files.items():
        path = book.root / "book" / name.replace("__", "/").replace("_dot_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    listed = "".join(f"  - {entry}\n" for entry in entries)
    (book.root / "_toc.yml").write_text(f"format: jb-book\nroot: book/index\nchapters:\n{listed}")
    return Project.find(book.root)


@pytest.mark.parametrize(
    ("entries", "files", "said"),
    [
        (
            ["file: book/one/intro", "file: book/two/intro.py"],
            {"one__intro_dot_py": "x = 1", "two__intro_dot_py": "x = 1"},
            "book/one/intro.py and book/two/intro.py, two chapters of the name 'intro'.*rename one",
        ),
        (["glob: book/*"], {}, r"by a pattern \('glob: book/\*'\), which would not be run; name each"),
        (["file: book/addition\n    sections:\n      - glob: book/m*"], {}, "by a pattern"),
        (["file: book/note"], {"note_dot_ipynb": "{}"}, "book/note.ipynb holds code.*jupytext --to py:percent"),
        (["file: book/note"], {"note_dot_md": "# A\n\n```{code-cell} ipython3\n1\n```\n"}, "book/note.md holds code"),
        (["file: book/note"], {"note_dot_md": "# A\n\n:::{code-cell}\n1\n:::\n"}, "book/note.md holds code"),
        (["file: book/addition"], {"addition_dot_md": "# A\n"}, "book/addition.py and book/addition.md; keep one"),
        (["file: book/additon"], {}, "neither book/additon.py nor book/additon.md. Did you mean 'addition'?"),
        (["file: notes/a"], {}, "which is not in book/"),
        (["file: book/../_build/a"], {}, "which is not in book/"),
        (["file: book/addition", "file: book/addition\n    file: book/index"], {}, "'file' is given twice"),
    ],
)
def test_a_page_that_would_not_be_run_or_shown_is_refused_before_anything_runs(book, entries, files, said):
    with_toc(book, *entries, **files)
    result = book.in_process("build")
    assert result.returncode == 2
    assert re.search(said, result.stdout.replace("\n", " ")), result.stdout
    assert not (book.root / "_build").exists()


def test_pages_of_text_and_a_notebook_that_jupytext_pairs_are_fine(book):
    files = {"text_dot_md": "# Text\n\n````\n```{code-cell}\n````\n", "addition_dot_ipynb": "{}"}
    project = with_toc(
        book, "file: book/addition.py", "url: https://example.org\n    title: Elsewhere", "file: book/text.md", **files
    )
    check_pages(project)
    assert list(project.chapters) == ["addition"]


JUMP = "levels may not be left out: make it '## C'"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"note_dot_md": "# A\n\n### C\n"}, f"book/note.md: the heading '### C' comes after one of level 1; {JUMP}"),
        ({"note_dot_py": "# %% [markdown]\n# # A\n\n# %% [markdown]\n# ### C\n"}, f"book/note.py: the heading '### C' .*{JUMP}"),
        ({"note_dot_md": "# A\n\n## B\n\n# B\n\n### C\n"}, JUMP),
        ({"note_dot_md": "B\n---\n"}, "'## B' is the first; .* make it '# B'"),
        ({"note_dot_md": "text\n"}, "book/note.md has no heading"),
    ],
)
def test_headings_that_the_rendering_would_fail_on_are_refused_before_anything_runs(book, change, said):
    with pytest.raises(UsageError, match=said):
        check_pages(with_toc(book, "file: book/note", **change))


@pytest.mark.parametrize(
    "text",
    ["# A\n\n```\n### C\n```\n", "---\nkey: 1\n---\n# A\n", "# A\n\n:::{note}\n### C\n:::\n", "```{include} ../x.md\n```\n### C\n"],
)
def test_what_is_no_heading_of_the_page_does_not_count(book, text):
    check_pages(with_toc(book, "file: book/note", note_dot_md=text))


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (None, "_config.yml is missing from the checkout"),
        ("title: [", "_config.yml is no valid YAML"),
        ("title: a\ntitle: b\n", "'title' is given twice"),
        ("[a]", "_config.yml does not have the form"),
        ("parse:\n  myst_enable_extensions: [dolarmath]\n", "_config.yml does not have the form of Jupyter Book's: 'enable_ext"),
        ("logo: book/nothing.svg\n", "names book/nothing.svg, which is not there"),
        ("bibtex_bibfiles: [references.bib]\n", "names references.bib, which is not there, or not in book/"),
    ],
)
def test_a_configuration_that_cannot_be_used_is_refused_before_anything_runs(book, config, said):
    (book.root / "_config.yml").unlink()
    if config is not None:
        (book.root / "_config.yml").write_text(config)
    result = book.in_process("build")
    assert (result.returncode, (book.root / "_build").exists()) == (2, False)
    assert said in result.stdout


def test_a_profile_that_gives_a_value_twice_is_refused(book):
    book.write_profiles("{addition: {first: 1, first: 2}}")
    with pytest.raises(UsageError, match=r"book/profiles.yaml is no valid YAML: 'first' is given twice"):
        Project.find(book.root).profile("quick")


def test_a_profile_without_values_is_the_defaults_and_a_list_of_profiles_is_refused(book):
    book.write_profiles("\n  cell_timeout_s: null")
    assert Project.find(book.root).profile("quick") == Profile()
    (book.root / "book" / "profiles.yaml").write_text("[quick]")
    with pytest.raises(UsageError, match="has no entry 'quick'; it needs one of each"):
        Project.find(book.root).profile("quick")
