"""The interactive page of a match: `page` assembles it, `compact` encodes the match, and `body.html`, `view.css` and
`view.js` run in the browser."""
