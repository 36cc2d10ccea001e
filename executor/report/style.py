"""The look of a report: light and dark, wide and narrow."""

STYLE = """
:root {
  --ink: #1c2024; --soft: #60676f; --line: #d9dde2; --paper: #ffffff; --panel: #f5f6f8;
  --good: #1a7f45; --bad: #c0352b; --unsure: #9a6700; --accent: #2f6fd6;
  --c0: #2f6fd6; --c1: #c2512a; --c2: #2a8a57; --c3: #8a4bc2; --c4: #a3740c;
  --c5: #0d8a94; --c6: #b83280; --c7: #60676f;
  color-scheme: light dark;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ink: #e6e8eb; --soft: #9aa3ad; --line: #343a41; --paper: #15181b; --panel: #1e2226;
    --good: #4fc37d; --bad: #f0776c; --unsure: #e0b040; --accent: #7fb0ff;
    --c0: #7fb0ff; --c1: #f29a72; --c2: #63cf95; --c3: #c79bf2; --c4: #e0bb55;
    --c5: #55c8d2; --c6: #f08abf; --c7: #9aa3ad;
  }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 62rem; margin: 0 auto; padding: 1.5rem 1rem 4rem; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0 0 .5rem; text-wrap: balance; }
h2 { font-size: 1.15rem; margin: 2.5rem 0 .75rem; padding-bottom: .3rem; border-bottom: 1px solid var(--line); }
h3 { font-size: 1.02rem; margin: 0; }
p { margin: .4rem 0; }
.soft { color: var(--soft); }
.good { color: var(--good); } .bad { color: var(--bad); } .unsure { color: var(--unsure); }
.outcome { font-weight: 600; }
.facts { display: grid; grid-template-columns: repeat(auto-fit, minmax(8.5rem, 1fr)); gap: .75rem; margin: 1rem 0 0; }
.facts div { background: var(--panel); border-radius: .5rem; padding: .55rem .75rem; min-width: 0; }
.facts dt { color: var(--soft); font-size: .8rem; }
.facts dd { margin: 0; overflow-wrap: anywhere; font-variant-numeric: tabular-nums; }
.note { border-left: 3px solid var(--unsure); padding: .2rem .75rem; margin: .75rem 0; }
.wide { overflow-x: auto; }
.wide svg { display: block; width: 100%; min-width: 38rem; height: auto; font: 12px system-ui, sans-serif; }
svg .soft { fill: var(--soft); }
svg .rule { stroke: var(--line); stroke-width: 1; fill: none; }
ol.plan { list-style: none; margin: .3rem 0 1.2rem; padding: 0; }
ol.plan li { display: flex; flex-wrap: wrap; gap: 0 .6rem; padding: .3rem 0; border-bottom: 1px solid var(--line); }
ol.plan .mark { width: 1.2rem; text-align: center; font-weight: 700; }
ol.plan .what { flex: 1 1 14rem; }
.frame { display: block; width: 100%; height: auto; border-radius: .4rem; background: #000; font-family: system-ui; }
.wide svg text, .defs { fill: var(--ink); } .defs { position: absolute; }
.strip { display: flex; gap: .5rem; overflow-x: auto; margin: .5rem 0; }
figure.small { flex: 0 0 9.5rem; margin: 0; }
.lanes { margin: .5rem 0; }
.lane { display: grid; grid-template-columns: minmax(6rem, 19rem) 1fr; gap: .75rem; align-items: center; }
.lane .name { font-size: .88rem; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; padding: .1rem 0; }
.lane .bar { position: relative; height: 1.05rem; background: var(--panel); border-radius: .2rem; overflow: hidden; }
.lane i { position: absolute; top: 0; bottom: 0; border-radius: .15rem; background: currentColor; }
.lane i.tick { width: 2px; border-radius: 0; } .accent { color: var(--accent); }
.scale { display: flex; justify-content: space-between; color: var(--soft); font-size: .8rem; margin: .1rem 0 .6rem; }
.diff { list-style: none; padding: 0; margin: .3rem 0; font: .88rem ui-monospace, monospace; overflow-wrap: anywhere; }
.pair { display: grid; grid-template-columns: 1fr 1fr; gap: 1rem; }
.pair > div { min-width: 0; } .pair .attempt .columns { grid-template-columns: 1fr; }
.run { color: var(--soft); font-weight: 600; margin: .8rem 0 -.6rem; }
summary h3 { display: inline; } a { color: inherit; }
a:focus-visible, summary:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; border-radius: .2rem; }
@media (max-width: 40rem) {
  .lane { grid-template-columns: 1fr; gap: 0; margin-bottom: .35rem; } .lane .name { white-space: normal; }
  .pair { grid-template-columns: 1fr; gap: 0; border-bottom: 2px solid var(--line); }
  main { padding: 1rem .75rem 3rem; } .step { padding: .75rem; }
}
.step { border: 1px solid var(--line); border-radius: .6rem; padding: 1rem; margin: 1rem 0; }
.step .columns { display: grid; grid-template-columns: minmax(0, 3fr) minmax(0, 2fr); gap: 1rem; margin-top: .75rem; }
@media (max-width: 44rem) { .step .columns { grid-template-columns: minmax(0, 1fr); } }
.step + .step { margin-top: 1.25rem; }
.attempt + .attempt { border-top: 1px dashed var(--line); margin-top: 1rem; padding-top: .75rem; }
figure { margin: 0 0 .75rem; }
figure img { display: block; width: 100%; height: auto; border-radius: .4rem; image-rendering: auto; }
figcaption { color: var(--soft); font-size: .85rem; margin-top: .25rem; }
table { border-collapse: collapse; width: 100%; font-size: .92rem; }
th, td { text-align: left; padding: .25rem .6rem .25rem 0; vertical-align: top; border-bottom: 1px solid var(--line); }
td { overflow-wrap: break-word; }
th { color: var(--soft); font-weight: 500; font-size: .82rem; }
td.number { font-variant-numeric: tabular-nums; white-space: nowrap; }
ul.plain { margin: .3rem 0; padding: 0 0 0 1.1rem; font-size: .92rem; overflow-wrap: anywhere; }
code { font: .9em ui-monospace, monospace; overflow-wrap: anywhere; }
.legend { display: flex; flex-wrap: wrap; gap: .2rem .9rem; font-size: .85rem; margin: .3rem 0; }
.legend i { display: inline-block; width: .9rem; height: .2rem; vertical-align: middle; margin-right: .3rem; }
details summary { cursor: pointer; color: var(--soft); }
"""
