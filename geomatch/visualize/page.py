"""Self-contained HTML pages: they load nothing, follow the light or dark theme, and fit wide and narrow screens."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from hashlib import sha256
from io import BytesIO

from PIL import Image

from geomatch.visualize.markup import Markup, element

QUALITIES = (84, 72, 60, 45)
_SMALLEST = 64
"""Pixels: pictures with a shorter side than twice this are not reduced."""

THEME = """
/* A page on which the reader can choose sets data-theme; otherwise the theme of the system holds. */
:root { color-scheme: light dark; --inset: 1rem }
:root[data-theme=light] { color-scheme: light }
:root[data-theme=dark] { color-scheme: dark }
:root {
  --paper: light-dark(#ffffff, #101317); --panel: light-dark(#f6f7f9, #181c22); --ink: light-dark(#191d23, #e7eaee);
  --muted: light-dark(#5b6572, #9aa4b1); --rule: light-dark(#e1e5ea, #2b313a); --grid: light-dark(#e6e9ee, #272d36);
  --accent: light-dark(#1f5fbf, #7fb2ff); --right: light-dark(#15803d, #4ade80); --wrong: light-dark(#c81e2c, #ff7a7f);
  --loud: light-dark(#fff3cd, #3a2a06); --loud-edge: light-dark(#d97706, #f5a524);
  --loud-ink: light-dark(#5c3a00, #ffe2a8); --shade: light-dark(rgb(25 29 35 / .16), rgb(0 0 0 / .7));
}
.series-0 { color: light-dark(#2563c9, #6ba5ff) } .series-1 { color: light-dark(#d4570b, #ff9752) }
.series-2 { color: light-dark(#0f8a6c, #3ecfa5) } .series-3 { color: light-dark(#9b3fb5, #d68bee) }
.series-4 { color: light-dark(#a87a00, #e5bb45) } .series-5 { color: light-dark(#c2255c, #ff7fa8) }
.series-6 { color: light-dark(#0e87a8, #54cbe8) } .series-7 { color: light-dark(#6b7280, #aab2bd) }

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


def html_page(title: str, *content: Markup, style: str = "", script: str = "") -> str:
    """An HTML page of ``content`` with `THEME`, the style sheet ``style`` and the JavaScript module ``script``.

    Its content security policy forbids loading anything and running any other script.
    """
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=_policy(script)),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("link", rel="icon", href="data:,"),  # without it browsers ask the server for one
        element("title", f"{title} · geomatch"),
        element("style", Markup("\n".join(filter(None, (THEME, style))))),
    )
    body = element("body", *content, *([element("script", Markup(script), type="module")] if script else []))
    return f"<!DOCTYPE html>\n{element('html', head, body, lang='en')}\n"


def data_uri(picture: Image.Image, limit: int, qualities: Sequence[int] = QUALITIES) -> str:
    """A picture as WebP in a data URI, at most ``limit`` bytes where possible: quality is lowered first, then size."""
    for quality in qualities:
        buffer = BytesIO()
        picture.save(buffer, "WEBP", quality=quality)
        if buffer.tell() <= limit:
            break
    else:
        if min(picture.size) >= 2 * _SMALLEST:
            return data_uri(picture.reduce(2), limit, qualities)
    return f"data:image/webp;base64,{b64encode(buffer.getvalue()).decode()}"


def _policy(script: str) -> str:
    digest = b64encode(sha256(script.encode()).digest()).decode()
    scripts = f"'sha256-{digest}'" if script else "'none'"
    return (
        f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src {scripts}; "
        "base-uri 'none'; form-action 'none'"
    )
