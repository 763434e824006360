"""The style sheet of the report, in addition to `geomatch.visualize.page.THEME`."""

from __future__ import annotations

STYLE = """
.split { color: var(--muted); font-weight: 400 }
nav { display: flex; flex-wrap: wrap; gap: .3rem 1.4rem; margin-top: 1.4rem; padding: .7rem 0;
  border-block: 1px solid var(--rule); font-size: .9rem }
nav a { text-decoration: none }
nav a:hover { text-decoration: underline }

.banner { margin-top: 1.75rem; padding: 1rem 1.25rem; border: 2px solid var(--loud-edge); border-left-width: .6rem;
  border-radius: .5rem; background: var(--loud); color: var(--loud-ink); overflow-wrap: anywhere }
.banner p { margin: 0 } .banner p strong { font-size: 1.15rem }
.banner p + details { margin-top: .6rem }
.banner ul { margin: .5rem 0 0; padding-left: 1.2rem; max-height: 20rem; overflow: auto; font-size: .9rem }

.scroll { overflow-x: auto; border: 1px solid var(--rule); border-radius: .6rem;
  /* A shade marks an edge with more content beyond it; covers that scroll with the content hide it at the ends. */
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
.paper .score { padding-inline: .5rem }
.paper tbody + tbody tr:first-child > * { border-top: 2px solid var(--muted) }
.line { display: flex; align-items: center; gap: .6rem; min-width: 9.5rem; line-height: 1.35 }
.bar { position: relative; flex: 1; height: .55rem; border-radius: .15rem; background: var(--grid) }
.fill, .whisker { position: absolute; display: block }
.fill { inset-block: 0; border-radius: .15rem; background: currentColor; opacity: .75 }
.whisker { top: calc(50% - 1px); height: 2px; background: var(--ink) }
.value { min-width: 3em; text-align: right }
.value.pixels { min-width: 4.2em }
details { margin-top: 1rem }
details > .scroll { margin-top: .8rem }

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
  :root { --inset: .6rem }
  .selection, .measures thead th { white-space: normal }
  .headline .score { font-size: 1.1rem }
  .score small { font-size: .7rem }
  .line { min-width: 7.5rem; gap: .4rem }
  .measures tbody th { min-width: 12rem }
}
@media print { nav { display: none } section { break-inside: avoid-page } }
""".strip()
