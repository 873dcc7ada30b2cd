"""The documentation site: builds without a network, runs every example."""

import json
import os
from pathlib import Path

project = "Locum"
author = "the Locum maintainers"
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx.ext.mathjax",
    "sphinx_gallery.gen_gallery",
]
myst_enable_extensions = ["dollarmath", "colon_fence", "deflist"]
myst_heading_anchors = 3
html_theme = "furo"
html_title = "Locum"
html_static_path = ["_static"]
exclude_patterns = ["_build", "gallery/**/*.ipynb", "sg_execution_times.rst", "methods/_generated"]
autosummary_generate = True
autodoc_typehints = "none"
autodoc_member_order = "bysource"
napoleon_numpy_docstring = True
napoleon_use_rtype = False
mathjax_path = "plain_formulas.js"  # formulas stay as they are written; nothing is fetched
suppress_warnings = ["config.cache", "myst.header", "ref.python"]  # a type named `rows` is not an attribute of that name
sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "gallery",
    "filename_pattern": r"\.py$",
    "abort_on_example_error": True,
    "download_all_examples": False,
    "remove_config_comments": True,
    "show_memory": False,
    "capture_repr": ("_repr_html_", "__repr__"),
}
os.environ["MPLBACKEND"] = "agg"


def _measured() -> None:
    """The page of measured figures, from every result.json."""
    here = Path(__file__).parent
    blocks = []
    for path in sorted(here.parent.glob("benchmarks/*/*/result.json")):
        record = json.loads(path.read_text())
        name = f"{path.parent.parent.name}/{path.parent.name}"
        text = json.dumps(record, indent=1)[:4000]
        body = "\n".join("   " + line for line in text.splitlines())
        blocks.append(f"{name}\n{'-' * len(name)}\n\n.. code-block:: text\n\n{body}\n")
    (here / "methods" / "_generated").mkdir(exist_ok=True)
    (here / "methods" / "_generated" / "measured.rst").write_text("\n".join(blocks) or "Nothing was measured yet.\n")


_measured()
