"""One interactive page of a match: `page` puts it together, `compact` makes a match small enough to travel inside it,
`body.html`, `view.css` and `view.js` are what the browser sees."""

from geomatch.visualize.pair_view.page import view_page

__all__ = ["view_page"]
