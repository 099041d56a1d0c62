"""Hold the report's style sheet as text, since a source tarball's root holds only Python files."""

STYLE = """
:root { --bg:#fff; --surface:#f5f6f8; --ink:#15181e; --muted:#596170; --line:#dde1e7; --good:#15803d; --bad:#c2261d;
  --shade:#15181e29; --c1:#2563eb; --c2:#d97706; --c3:#0d9488; --c4:#9333ea; --c5:#db2777; --c6:#64748b; }
@media screen and (prefers-color-scheme: dark) {
  :root { --bg:#0f1115; --surface:#191c22; --ink:#e8eaef; --muted:#9ba4b3; --line:#2d323b;
    --good:#4ade80; --bad:#fb7166; --shade:#000000b3;
    --c1:#7aa5ff; --c2:#f6b04a; --c3:#45cfbf; --c4:#c490f5; --c5:#f47fb5; --c6:#94a3b8; }
  img { filter: brightness(.92); }
}
* { box-sizing: border-box; }
html { scroll-behavior: smooth; scroll-padding-top: 3.5rem; }
@media (prefers-reduced-motion: reduce) { html { scroll-behavior: auto; } }
body { margin: 0; background: var(--bg); color: var(--ink); font: 16px/1.6 system-ui, -apple-system, "Segoe UI", Roboto,
  "DejaVu Sans", sans-serif; -webkit-text-size-adjust: 100%; }
header, main, footer { max-width: 68rem; margin: 0 auto; padding: 0 1.25rem; }
header { padding-top: 2.5rem; }
footer { padding-top: 2rem; padding-bottom: 3rem; font-size: .875rem; }
h1 { font-size: clamp(1.5rem, 4vw, 2.1rem); line-height: 1.2; margin: 0 0 .35rem; overflow-wrap: anywhere; }
h2 { font-size: 1.35rem; margin: 3rem 0 .75rem; padding-top: .75rem; border-top: 1px solid var(--line); }
h3 { font-size: 1.02rem; margin: 2rem 0 .5rem; }
p { max-width: 46rem; margin: .5rem 0; overflow-wrap: anywhere; }
header p { margin: 0; }
a { color: var(--c1); }
.muted, figcaption, small { color: var(--muted); }
.lead { font-size: 1.12rem; line-height: 1.65; }
.note { color: var(--muted); border-left: 3px solid var(--line); padding-left: .75rem; }
.warn { border-left-color: var(--c2); color: inherit; }
nav { position: sticky; top: 0; z-index: 2; background: var(--bg); border-bottom: 1px solid var(--line);
  margin-top: 1.25rem;
  display: flex; gap: 1.25rem; overflow-x: auto; padding: .55rem max(1.25rem, calc((100vw - 68rem) / 2 + 1.25rem)); }
nav a { color: var(--muted); text-decoration: none; white-space: nowrap; font-size: .9rem; }
nav a:hover, nav a:focus { color: var(--ink); text-decoration: underline; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(10.5rem, 1fr)); gap: .75rem; margin: 1.25rem 0; }
.tiles div { background: var(--surface); border-radius: .6rem; padding: .8rem 1rem; }
dt { color: var(--muted); font-size: .85rem; }
dd { margin: 0; font-size: 1.45rem; font-weight: 600; line-height: 1.35; font-variant-numeric: tabular-nums; }
dd small { display: block; font-size: .8rem; font-weight: 400; line-height: 1.4; }
.headline { margin: 1.25rem 0; border-left: 4px solid var(--c1); padding-left: 1rem; max-width: 54rem; }
.headline div { display: grid; grid-template-columns: 6.5rem 1fr; gap: .25rem 1rem; padding: .2rem 0; }
.headline dt { font-size: 1rem; padding-top: .1rem; }
.headline dd { font-size: 1.12rem; font-weight: 500; overflow-wrap: anywhere; }
@media (max-width: 30rem) { .headline div { grid-template-columns: 1fr; } }
figure { margin: 1.25rem 0; }
figcaption { font-size: .875rem; max-width: 46rem; margin-top: .35rem; }
/* A shadow on the side where there is more to see. */
.scroll { overflow-x: auto; background:
  linear-gradient(to right, var(--bg) 40%, transparent) left / 2.5rem 100% no-repeat local,
  linear-gradient(to left, var(--bg) 40%, transparent) right / 2.5rem 100% no-repeat local,
  linear-gradient(to right, var(--shade), transparent) left / .9rem 100% no-repeat scroll,
  linear-gradient(to left, var(--shade), transparent) right / .9rem 100% no-repeat scroll; }
figure:has(.big) > .scroll { width: fit-content; max-width: calc(100vw - 2.5rem); margin-left: 50%; translate: -50%; }
svg { display: block; height: auto; }
svg:not(.big) { max-width: 100%; }
svg text { font-family: inherit !important; }
table { border-collapse: collapse; font-size: .9rem; margin: .5rem 0; min-width: min(100%, 26rem);
  font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .36rem 1.1rem .36rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
table.words { min-width: min(40rem, 200%); }
th { color: var(--muted); font-weight: 500; white-space: nowrap; }
.n { text-align: right; white-space: nowrap; }
tr.best td { font-weight: 600; color: var(--c2); }
.pill { display: inline-block; border-radius: 1rem; padding: 0 .6rem; font-size: .82rem; white-space: nowrap;
  border: 1px solid currentColor; }
.pill.good { color: var(--good); } .pill.bad { color: var(--bad); } .pill.plain { color: var(--muted); }
details { margin: .75rem 0; } summary { cursor: pointer; color: var(--c1); }
pre { background: var(--surface); border-radius: .6rem; padding: .9rem 1rem; overflow-x: auto; font-size: .84rem;
  line-height: 1.5; }
.shots { display: grid; grid-template-columns: repeat(auto-fill, minmax(8.2rem, 1fr)); gap: .9rem; margin: .75rem 0; }
.shot { font-size: .8rem; line-height: 1.35; overflow-wrap: anywhere; margin: 0; }
.shot img, .pair img { width: 100%; aspect-ratio: 1; object-fit: cover; border-radius: .45rem; display: block;
  background: var(--surface); margin-bottom: .3rem; }
img.tiny { image-rendering: pixelated; }
.shot b { font-weight: 600; } .shot .yes { color: var(--good); } .shot .no { color: var(--bad); }
.pairs { display: grid; grid-template-columns: repeat(auto-fill, minmax(19rem, 1fr)); gap: 1.25rem; margin: .75rem 0; }
.pair { background: var(--surface); border-radius: .6rem; padding: .9rem; }
.pair p { margin: 0 0 .6rem; font-size: .92rem; line-height: 1.4; }
.pair div { display: grid; grid-template-columns: repeat(3, minmax(0, 1fr)); gap: .5rem; }
.pair figure { margin: 0; font-size: .75rem; line-height: 1.3; color: var(--muted); overflow-wrap: anywhere; }
@media print {
  @page { margin: 14mm; }
  body { font-size: 10.5pt; } nav { display: none; } header { padding-top: 0; }
  header, main, footer { max-width: none; padding: 0; }
  h2 { margin-top: 1.6rem; } h2, h3, figcaption { break-after: avoid; } figcaption { break-before: avoid; }
  figure, .pair, .shot, tr, .tiles div { break-inside: avoid; }
  svg, svg.big { min-width: 0 !important; max-width: 100% !important; max-height: 235mm; }
  .scroll, figure:has(.big) > .scroll { overflow: visible; background: none; width: auto; max-width: none; margin: 0;
    translate: none; } pre { white-space: pre-wrap; overflow-wrap: anywhere; }
  details::details-content { content-visibility: visible; display: block; height: auto; }
  details { display: block; } summary { list-style: none; color: var(--muted); }
  .shots { grid-template-columns: repeat(6, 1fr); } .pairs { display: block; }
  .pair { display: inline-block; width: 48%; margin: 0 1% 1rem 0; vertical-align: top; }
  table { font-size: 8.5pt; } table, table.words { min-width: 0; }
  th, td { padding: .14rem .6rem .14rem 0; }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
}
"""
