"""Settings of the documentation site.

Build it with `sphinx-build -W -c docs . build/site`; the start page is `build/site/index.html`.
The source folder is the whole repository, so that links between README.md, docs/ and the other
Markdown files lead to the same places on the site and where the repository is browsed.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from pvio import __version__

project = "pvio"
author = "The pvio authors"
project_copyright = author
version = release = __version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
]
root_doc = "docs/index"
include_patterns = ["*.md", "docs/**.md"]
exclude_patterns = [".*", "build", "results", "work", "samples", "tests"]
source_suffix = {".md": "markdown"}
templates_path = ["templates"]

# Anchors as GitHub makes them, down to the third level of headings.
myst_heading_anchors = 3
myst_links_external_new_tab = False

# Docstrings are in Google style; a name in single backticks is code.
default_role = "code"
napoleon_use_ivar = True
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_default_options = {"members": True}
python_use_unqualified_type_names = True

html_theme = "furo"
html_title = f"pvio {version}"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_show_sphinx = False
html_copy_source = False
# The root document is below docs/; the start page of the site leads there.
html_additional_pages = {"index": "start.html"}
