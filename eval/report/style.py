"""The style sheet of all reports: one column, system fonts, two themes, nothing loaded."""

CSS = """
:root {
  color-scheme: light dark;
  --page: #ffffff; --text: #1a1e23; --muted: #59636e; --rule: #dfe3e7;
  --edge: #c3cad1;
  --own: #1a5fb4; --other: #7b8794; --gold: #8a5a00; --gold-fill: #d9a441; --looked: #7d8894;
  --warn-fill: #fff4d9; --warn-rule: #c98a00; --reference: #59636e;
  --decode: #1f3a5f; --encode: #3f78b5; --prefill: #8fb8de; --generate: #d9a441;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #14171a; --text: #e6e9ec; --muted: #9ea8b3; --rule: #343a41;
    --edge: #4a525b;
    --own: #7db2f5; --other: #8f9aa6; --gold: #e3b35c; --gold-fill: #c9933a; --looked: #8591a0;
    --warn-fill: #33290f; --warn-rule: #c98a00; --reference: #9ea8b3;
    --decode: #c9def5; --encode: #7db2f5; --prefill: #3f6fa5; --generate: #d9a441;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; scroll-behavior: smooth; }
@media (prefers-reduced-motion: reduce) { html { scroll-behavior: auto; } }
body {
  margin: 0; background: var(--page); color: var(--text);
  font: 1rem/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Liberation Sans", sans-serif;
}
main { max-width: 64rem; margin: 0 auto; padding: 2.5rem 1.5rem 5rem; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0; letter-spacing: -0.01em; }
h2 { font-size: 1.3rem; line-height: 1.3; margin: 3.25rem 0 0.5rem; }
h3 { font-size: 1rem; line-height: 1.4; margin: 2rem 0 0.25rem; }
p { margin: 0.4rem 0; max-width: 46rem; }
a { color: var(--own); text-underline-offset: 0.15em; }
a:focus-visible, summary:focus-visible, .scroll:focus-visible {
  outline: 2px solid var(--own); outline-offset: 2px;
}
code { font: 0.875em/1.4 ui-monospace, "Cascadia Mono", Menlo, "Liberation Mono", monospace; }
.muted { color: var(--muted); }
.small { font-size: 0.875rem; }
.subtitle { color: var(--muted); font-size: 1.05rem; margin: 0.35rem 0 0; }
.limited {
  margin: 1.25rem 0 0; padding: 0.6rem 0.9rem; max-width: none;
  background: var(--warn-fill); border-left: 4px solid var(--warn-rule);
}
nav ul {
  list-style: none; margin: 1.5rem 0 0; padding: 0.6rem 0;
  display: flex; flex-wrap: wrap; gap: 0.25rem 1.25rem;
  border-top: 1px solid var(--rule); border-bottom: 1px solid var(--rule); font-size: 0.9375rem;
}
.figures { display: flex; flex-wrap: wrap; gap: 1.25rem 3rem; margin: 2rem 0 1rem; padding: 0; }
.figures dt { font-size: 0.9375rem; color: var(--muted); }
.figures dd { margin: 0; }
.figures .big { font-size: 2.4rem; line-height: 1.15; font-weight: 600; letter-spacing: -0.02em; }
.figures .unit { font-size: 1.3rem; font-weight: 400; margin-left: 0.1em; }
.figures .small { display: block; color: var(--muted); }
.scroll { overflow-x: auto; margin: 0.75rem 0; }
table { border-collapse: collapse; width: 100%; font-size: 0.9375rem; }
th, td { padding: 0.4rem 0.75rem; text-align: left; vertical-align: baseline; }
th:first-child, td:first-child { padding-left: 0; }
tr { border-bottom: 1px solid var(--rule); }
thead th { font-weight: 400; color: var(--muted); font-size: 0.875rem; vertical-align: bottom; }
tbody th { font-weight: 400; overflow-wrap: anywhere; min-width: 9rem; }
tbody tr.own th, tbody tr.own td { font-weight: 600; }
.number { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
td .note, th .note { display: block; color: var(--muted); font-size: 0.8125rem; font-weight: 400; }
table.scores { min-width: 40rem; table-layout: fixed; }
table.scores td, table.scores th { vertical-align: middle; }
table.scores thead th { vertical-align: bottom; }
th.score { width: 5.5rem; }
th.interval { width: 9rem; }
th.questions { width: 6rem; }
th.source { width: 13rem; }
td.source { font-size: 0.8125rem; color: var(--muted); font-weight: 400; }
table.counts { width: auto; }
table.differences { min-width: 52rem; }
table.differences th.score { width: 4rem; }
table.differences th.p { width: 5.25rem; white-space: normal; }
table.differences th.questions { width: 6.5rem; white-space: normal; }
table.differences th.interval { width: 9.75rem; }
table.differences th.plot { width: 22%; }
table.texts { min-width: 38rem; }
table.texts td { overflow-wrap: anywhere; }
th.plot { width: 38%; }
.with-sources th.plot { width: 30%; }
th.plot, td.plot { position: relative; padding: 0; }
svg { display: block; overflow: visible; }
td.plot svg { position: absolute; left: 1.25rem; top: 0; width: calc(100% - 2.5rem); height: 100%; }
th.plot svg { margin: 0 1.25rem; width: calc(100% - 2.5rem); height: 1.4rem; }
svg text.tick {
  fill: var(--muted); font-size: 0.75rem; text-anchor: middle; dominant-baseline: middle;
}
svg .grid { stroke: var(--rule); stroke-width: 1; }
svg .reference { stroke: var(--reference); stroke-width: 1.5; stroke-dasharray: 3 3; }
svg .interval { stroke-width: 3; stroke-linecap: round; opacity: 0.55; }
svg .interval.own { stroke: var(--own); }
svg .interval.other { stroke: var(--other); }
svg .point.own { fill: var(--own); }
svg .point.other { fill: var(--page); stroke: var(--other); stroke-width: 2; }
svg.stacked { width: 100%; height: 1.75rem; margin: 1rem 0 0.25rem; }
svg .part { stroke: var(--page); stroke-width: 1; }
.part.decode { fill: var(--decode); background: var(--decode); }
.part.encode { fill: var(--encode); background: var(--encode); }
.part.prefill { fill: var(--prefill); background: var(--prefill); }
.part.generate { fill: var(--generate); background: var(--generate); }
.swatch { display: inline-block; width: 0.8em; height: 0.8em; margin-right: 0.5em; }
article { margin: 2rem 0 0; padding: 1.1rem 0 0; border-top: 1px solid var(--rule); }
article h3 { margin: 0; font-size: 1.05rem; max-width: 46rem; }
article .id { margin: 0 0 0.2rem; overflow-wrap: anywhere; max-width: none; }
.options { list-style: none; margin: 0.6rem 0; padding: 0; }
.options li { padding: 0.05rem 0; }
.options.letters li { padding-left: 1.6rem; text-indent: -1.6rem; }
.options .letter { display: inline-block; width: 1.6rem; text-indent: 0; color: var(--muted); }
.options .gold-option { font-weight: 600; }
.mark { font-size: 0.8125rem; font-weight: 600; margin-left: 0.5rem; white-space: nowrap; }
.mark.gold { color: var(--gold); }
.mark.answered { color: var(--own); }
.reply { margin: 0.5rem 0; }
.reply q { overflow-wrap: anywhere; }
.tracks {
  display: grid; grid-template-columns: max-content minmax(6rem, 1fr) minmax(0, 18rem);
  gap: 0.3rem 1rem; align-items: center; margin: 0.9rem 0 0; font-size: 0.875rem;
}
.tracks svg { width: 100%; height: 1.1rem; }
.tracks .name { color: var(--muted); }
.tracks .ends {
  grid-column: 2; display: flex; justify-content: space-between;
  color: var(--muted); font-size: 0.75rem; font-variant-numeric: tabular-nums;
}
svg .span.gold { fill: var(--gold-fill); }
svg .span.answered { fill: var(--own); }
svg .span.looked, svg .span.watched { fill: var(--looked); }
svg .moment { stroke: var(--text); stroke-width: 1; opacity: 0.6; }
.pictures {
  display: flex; flex-wrap: wrap; gap: 0.75rem; list-style: none; margin: 0.9rem 0 0; padding: 0;
}
.pictures img {
  display: block; width: auto; height: 8rem; max-width: 100%;
  object-fit: contain; object-position: left;
}
.pictures li { font-size: 0.8125rem; max-width: 14.5rem; }
.pictures .when { font-variant-numeric: tabular-nums; }
details { margin: 0.75rem 0; }
summary { cursor: pointer; color: var(--muted); font-size: 0.9375rem; }
dl.facts {
  display: grid; grid-template-columns: minmax(7rem, 13rem) minmax(0, 1fr);
  gap: 0.25rem 1.25rem; margin: 0.75rem 0; font-size: 0.9375rem;
}
dl.facts dt { color: var(--muted); }
dl.facts dd { margin: 0; overflow-wrap: anywhere; }
footer { margin-top: 4rem; color: var(--muted); font-size: 0.875rem; }
@media (max-width: 40rem) {
  main { padding: 1.5rem 1rem 4rem; }
  h1 { font-size: 1.5rem; }
  .pictures li { width: calc(50% - 0.4rem); }
  .pictures img { width: 100%; height: auto; max-height: 12rem; }
  .figures { gap: 1rem 2.5rem; }
  tbody th[scope="row"], table.scores thead th:first-child {
    position: sticky; left: 0; z-index: 1; background: var(--page);
  }
  table.scores { min-width: 35rem; }
  table.scores.with-sources { min-width: 42rem; }
  table.scores thead th:first-child { width: 8rem; }
  th.score { width: 4.75rem; }
  th.interval { width: 7.75rem; }
  th.questions { width: 5.5rem; }
  .scroll {  /* a shadow at the edge behind which there is more */
    background:
      linear-gradient(to left, var(--page) 40%, transparent) right / 3rem 100% no-repeat local,
      linear-gradient(to left, var(--edge), transparent) right / 1rem 100% no-repeat scroll;
  }
  .tracks { grid-template-columns: max-content minmax(0, 1fr); }
  .tracks .words { grid-column: 2; margin-top: -0.2rem; }
  dl.facts { grid-template-columns: minmax(0, 1fr); gap: 0; }
  dl.facts dd { margin-bottom: 0.5rem; }
}
@media print {
  main { max-width: none; padding: 0; }
  nav { display: none; }
  article, tr { break-inside: avoid; }
}
"""
