"""One HTML page that loads nothing from anywhere, by day and by night, on a desk and on a phone."""

from __future__ import annotations

from geomatch.visualize.markup import Markup, element

THEME = """
:root {
  color-scheme: light dark;
  --paper: #ffffff; --panel: #f6f7f9; --ink: #191d23; --muted: #5b6572; --rule: #e1e5ea; --grid: #e6e9ee;
  --accent: #1f5fbf; --right: #15803d; --wrong: #c81e2c; --loud: #fff3cd; --loud-edge: #d97706; --loud-ink: #5c3a00;
  --shade: rgb(25 29 35 / .16); --inset: 1rem;
}
.series-0 { color: #2563c9 } .series-1 { color: #d4570b } .series-2 { color: #0f8a6c } .series-3 { color: #9b3fb5 }
.series-4 { color: #a87a00 } .series-5 { color: #c2255c } .series-6 { color: #0e87a8 } .series-7 { color: #6b7280 }
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #101317; --panel: #181c22; --ink: #e7eaee; --muted: #9aa4b1; --rule: #2b313a; --grid: #272d36;
    --accent: #7fb2ff; --right: #4ade80; --wrong: #ff7a7f; --loud: #3a2a06; --loud-edge: #f5a524; --loud-ink: #ffe2a8;
    --shade: rgb(0 0 0 / .7);
  }
  .series-0 { color: #6ba5ff } .series-1 { color: #ff9752 } .series-2 { color: #3ecfa5 } .series-3 { color: #d68bee }
  .series-4 { color: #e5bb45 } .series-5 { color: #ff7fa8 } .series-6 { color: #54cbe8 } .series-7 { color: #aab2bd }
}

* { box-sizing: border-box }
html { -webkit-text-size-adjust: 100%; scroll-behavior: smooth }
body {
  margin: 0 auto; max-width: 74rem; padding: 0 clamp(1rem, 4vw, 2.5rem) 4rem;
  background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", "Liberation Sans", Arial, sans-serif;
}
h1, h2, h3 { line-height: 1.2; text-wrap: balance; letter-spacing: -.015em }
h1 { font-size: clamp(2rem, 6vw, 3rem); margin: 0 0 .6rem }
h2 { font-size: 1.45rem; margin: 0 0 1rem }
h3 { font-size: 1rem; margin: 0 0 .7rem; letter-spacing: 0 }
section { padding-top: 2.75rem }
a { color: var(--accent) }
code, pre { font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, "Liberation Mono", monospace; font-size: .86em }
small, figcaption, .meaning, .lead, caption { color: var(--muted) }
summary { cursor: pointer }
:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px }

header { padding-top: clamp(1.75rem, 6vw, 3.5rem) }
.eyebrow { margin: 0 0 .5rem; color: var(--muted); font-size: .8rem; letter-spacing: .1em; text-transform: uppercase }
.facts { display: flex; flex-wrap: wrap; gap: .2rem 1.6rem; margin: 0; padding: 0; list-style: none }
.facts li { font-variant-numeric: tabular-nums }

.label { display: inline-flex; align-items: baseline; gap: .5em }
.swatch { flex: none; width: .72em; height: .72em; border-radius: .2em; background: currentColor }
.legend { display: flex; flex-wrap: wrap; gap: .2rem 1.2rem; margin: 0 0 .8rem; padding: 0; list-style: none;
  color: var(--ink); font-size: .875rem }
.sample { display: inline-block; width: 1.6em; margin-right: .5em; vertical-align: .25em;
  border-top: 2px dotted var(--muted) }
.sample.diagonal { border-top: 1.5px dashed var(--muted) }

.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 20rem), 1fr)); gap: 2rem }
figure { margin: 0 }
.chart { max-width: 30rem }
.chart svg { display: block; width: 100%; height: auto; overflow: visible }
.chart text { fill: var(--muted); font-size: 11.5px; font-variant-numeric: tabular-nums }
.chart .legend { margin: .5rem 0 }
.chart p { margin: 0; font-size: .82rem }
.grid line { stroke: var(--grid) } .grid .axis { stroke: var(--muted) }
.curve, .reference { fill: none; stroke: currentColor; stroke-linejoin: round; stroke-linecap: round }
.curve { stroke-width: 2 }
path.reference { stroke-width: 1.6; stroke-dasharray: .1 4 }
line.diagonal { stroke: var(--muted); stroke-width: 1.2; stroke-dasharray: 5 4 }
circle { fill: currentColor; fill-opacity: .8; stroke: var(--paper); stroke-width: .8 }
@media (max-width: 46rem) { body { font-size: 15px } }
""".strip()


def html_page(title: str, *content: Markup, style: str = "") -> str:
    """A whole page: ``content`` under `THEME` and the style sheet ``style``."""
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("link", rel="icon", href="data:,"),  # or browsers ask the server for one
        element("title", f"{title} · geomatch"),
        element("style", Markup("\n".join(filter(None, (THEME, style))))),
    )
    return f"<!DOCTYPE html>\n{element('html', head, element('body', *content), lang='en')}\n"
