"""A page about an export: what was asked for, what each layer lost, what became of the size.

    check_place(path, bundle, force)        # before the work begins
    write_page(path, page(Facts(...)))      # when it has succeeded

The page is one HTML file without scripts or anything from elsewhere. Speed is in it where something can run
the bundle (measure_speed). Perplexity is not: that needs a text, so the page names the command.
"""

from mindir_llm.export.report.facts import Facts
from mindir_llm.export.report.page import page
from mindir_llm.export.report.place import check_place, write_page
from mindir_llm.export.report.speed import Speed, measure_speed

__all__ = ["Facts", "Speed", "check_place", "measure_speed", "page", "write_page"]
