"""How the page looks, by day and by night, on a desk and on a phone."""

from __future__ import annotations

STYLE = """
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
.split { color: var(--muted); font-weight: 400 }
.facts { display: flex; flex-wrap: wrap; gap: .2rem 1.6rem; margin: 0; padding: 0; list-style: none }
.facts li { font-variant-numeric: tabular-nums }
nav { display: flex; flex-wrap: wrap; gap: .3rem 1.4rem; margin-top: 1.4rem; padding: .7rem 0;
  border-block: 1px solid var(--rule); font-size: .9rem }
nav a { text-decoration: none }
nav a:hover { text-decoration: underline }

.banner { margin-top: 1.75rem; padding: 1rem 1.25rem; border: 2px solid var(--loud-edge); border-left-width: .6rem;
  border-radius: .5rem; background: var(--loud); color: var(--loud-ink); overflow-wrap: anywhere }
.banner p { margin: 0 } .banner p strong { font-size: 1.15rem }
.banner p + details { margin-top: .6rem }
.banner ul { margin: .5rem 0 0; padding-left: 1.2rem; max-height: 20rem; overflow: auto; font-size: .9rem }

.label { display: inline-flex; align-items: baseline; gap: .5em }
.swatch { flex: none; width: .72em; height: .72em; border-radius: .2em; background: currentColor }
.legend { display: flex; flex-wrap: wrap; gap: .2rem 1.2rem; margin: 0 0 .8rem; padding: 0; list-style: none;
  color: var(--ink); font-size: .875rem }
.sample { display: inline-block; width: 1.6em; margin-right: .5em; vertical-align: .25em;
  border-top: 2px dotted var(--muted) }
.sample.diagonal { border-top: 1.5px dashed var(--muted) }

.scroll { overflow-x: auto; border: 1px solid var(--rule); border-radius: .6rem;
  /* A shade at the edge beyond which there is more; covers that scroll along hide it at the ends. */
  background: linear-gradient(to right, var(--paper) 40%, transparent) left / 2.5rem 100% no-repeat local,
    linear-gradient(to left, var(--paper) 40%, transparent) right / 2.5rem 100% no-repeat local,
    linear-gradient(to right, var(--shade), transparent) left / .8rem 100% no-repeat scroll,
    linear-gradient(to left, var(--shade), transparent) right / .8rem 100% no-repeat scroll }
table { width: 100%; border-collapse: collapse; font-size: .92rem; font-variant-numeric: tabular-nums lining-nums }
caption { padding: .8rem var(--inset); text-align: left; font-size: .875rem; border-bottom: 1px solid var(--rule) }
.pinned { display: block; position: sticky; left: var(--inset); width: fit-content;
  max-width: min(60rem, 100vw - 4rem) }
caption b, .protocol b { color: var(--ink) }
.headline .reading { display: block }
.meaning { display: block; font-weight: 400 }
th, td { padding: .6rem var(--inset); text-align: left; vertical-align: top; border-top: 1px solid var(--rule) }
thead th { border-top: 0; color: var(--muted); font-size: .82rem; font-weight: 600; vertical-align: bottom }
tbody th { font-weight: 500 }
.selection, thead th, .score, .count { white-space: nowrap }
.score, .count { text-align: right }
.score small { display: block; font-size: .75rem }
.score strong { font-weight: 750 }
.headline .score { font-size: 1.3rem; line-height: 1.3 }
.headline thead .score { font-size: .82rem; line-height: inherit }
.headline tbody th { vertical-align: middle }
.protocols tbody tr:not(.protocol) > * { padding-block: .4rem }
.protocol th { background: var(--panel); font-size: .875rem }
.measures tbody th { min-width: 16rem }
.measures th small { display: block; max-width: 38rem; font-size: .82rem; font-weight: 400 }
.arrow { color: var(--muted); font-weight: 400 }

.classes th, .classes td { padding-block: .35rem }
.classes .group, .classes .all { background: var(--panel) }
.classes .group th { font-style: italic } .classes .all th { font-weight: 700 }
.classes tbody + tbody tr:first-child > * { border-top: 2px solid var(--muted) }
.classes tbody th { position: sticky; left: 0; z-index: 1; background: var(--paper) }
.classes .group th, .classes .all th { background: var(--panel) }
.line { display: flex; align-items: center; gap: .6rem; min-width: 9.5rem; line-height: 1.35 }
.bar { position: relative; flex: 1; height: .55rem; border-radius: .15rem; background: var(--grid) }
.fill, .whisker { position: absolute; display: block }
.fill { inset-block: 0; border-radius: .15rem; background: currentColor; opacity: .75 }
.whisker { top: calc(50% - 1px); height: 2px; background: var(--ink) }
.value { min-width: 3em; text-align: right }
.value.pixels { min-width: 4.2em }
details { margin-top: 1rem }
details > .scroll { margin-top: .8rem }

.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 20rem), 1fr)); gap: 2rem }
figure { margin: 0 }
.chart { max-width: 30rem }
.chart svg { display: block; width: 100%; height: auto }
.chart text { fill: var(--muted); font-size: 11.5px; font-variant-numeric: tabular-nums }
.chart .legend { margin: .5rem 0 }
.chart p { margin: 0; font-size: .82rem }
.grid line { stroke: var(--grid) } .grid .axis { stroke: var(--muted) }
.curve, .reference { fill: none; stroke: currentColor; stroke-linejoin: round; stroke-linecap: round }
.curve { stroke-width: 2 }
path.reference { stroke-width: 1.6; stroke-dasharray: .1 4 }
line.diagonal { stroke: var(--muted); stroke-width: 1.2; stroke-dasharray: 5 4 }
circle { fill: currentColor; fill-opacity: .8; stroke: var(--paper); stroke-width: .8 }

.lead { max-width: 46rem; margin: 0 0 1.5rem }
.right, .wrong { font-weight: 650 } .right { color: var(--right) } .wrong { color: var(--wrong) }
.pairs { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 20rem), 1fr)); gap: 1rem;
  margin-bottom: 2rem }
.pair { padding: .4rem .4rem .9rem; border-radius: .6rem; background: var(--panel) }
.pair label { display: block; cursor: zoom-in }
.pair input { position: absolute; opacity: 0 }
.pair input:focus-visible + img { outline: 2px solid var(--accent) }
.pair img { display: block; width: 100%; height: auto; aspect-ratio: 2.3; object-fit: contain }
.pair:has(:checked) { grid-column: 1 / -1 }
.pair:has(:checked) label { cursor: zoom-out }
.pair :checked + img { aspect-ratio: auto; max-height: 36rem }
.pair figcaption { display: grid; gap: .15rem; padding: .4rem .6rem 0; font-size: .875rem }
.rank { font-size: .75rem; font-weight: 650; letter-spacing: .08em; text-transform: uppercase }
.found b { color: var(--ink); font-size: 1.25rem; font-variant-numeric: tabular-nums }
.category { color: var(--ink) }
.names { overflow-wrap: anywhere; font-size: .8rem }

pre { margin: 0 0 1.25rem; padding: 1rem; border-radius: .6rem; background: var(--panel);
  white-space: pre-wrap; overflow-wrap: anywhere }
pre code { font-size: inherit }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 22rem), 1fr)); gap: 1.25rem }
.card { padding: 1.25rem; border: 1px solid var(--rule); border-radius: .6rem; font-size: .9rem }
dl { display: grid; grid-template-columns: auto minmax(0, 1fr); gap: .3rem 1rem; margin: 0 }
dt { color: var(--muted) }
dd { margin: 0; overflow-wrap: anywhere; font-variant-numeric: tabular-nums }

@media (max-width: 46rem) {
  body { font-size: 15px }
  :root { --inset: .6rem }
  .selection, .measures thead th { white-space: normal }
  .headline .score { font-size: 1.1rem }
  .score small { font-size: .7rem }
  .line { min-width: 7.5rem; gap: .4rem }
  .measures tbody th { min-width: 12rem }
}
@media print { nav { display: none } section { break-inside: avoid-page } }
""".strip()
