"""A page about an export: what was asked for, what each layer lost, what became of the size.

    check_place(path, bundle, force)        # before the work begins
    write_page(path, page(Facts(...)))      # when it has succeeded

The page is one HTML file without scripts or anything from elsewhere. Speed and perplexity are not in it: they
need the bundle to be run, for which it names the commands.
"""

from mindir_llm.export.report.facts import Facts
from mindir_llm.export.report.page import page
from mindir_llm.export.report.place import check_place, write_page

__all__ = ["Facts", "check_place", "page", "write_page"]
