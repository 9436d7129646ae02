"""The style of the HTML page: one set of names, two sets of colours, for light and for dark."""
# SPDX-License-Identifier: GPL-2.0-or-later

STYLE = """
:root { color-scheme: light dark;
  --bg: #f7f8f8; --card: #ffffff; --text: #1b2126; --soft: #5b6771; --line: #dde2e5; --cut: #ffffff99;
  --good: #1c7440; --bad: #b3261e; --warn: #8a5a00; --good-bg: #e6f4ea; --bad-bg: #fdeceb;
  --dma: #c98a1b; --dma32: #15888c; --normal: #3a6fd0; --movable: #2f9a52; --device: #9549bf; --none: #7b8790; }
@media (prefers-color-scheme: dark) { :root {
  --bg: #14171a; --card: #1c2024; --text: #e7eaec; --soft: #9aa6b0; --line: #2f363c; --cut: #14171a99;
  --good: #74d296; --bad: #ff8f86; --warn: #e6b35a; --good-bg: #18301f; --bad-bg: #3a1d1b;
  --dma: #dda243; --dma32: #3bb0b0; --normal: #6a98f0; --movable: #57bb77; --device: #bd83e3; --none: #8b97a1; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--bg); color: var(--text); font: 15px/1.5 system-ui, -apple-system, sans-serif; }
main { max-width: 66rem; margin: 0 auto; padding: 2rem 1.25rem 3rem; }
h1 { font-size: 1.5rem; line-height: 1.25; margin: 0 0 .25rem; } h2 { font-size: 1.05rem; margin: 2.2rem 0 .6rem; }
p { margin: .3rem 0; } code, pre { font: 12.5px/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
.soft { color: var(--soft); } .bad { color: var(--bad); } .good { color: var(--good); } .warn { color: var(--warn); }
.verdict { margin: 1.1rem 0; padding: .55rem .9rem; border-radius: .4rem; font-weight: 600; }
.verdict.good { background: var(--good-bg); } .verdict.bad { background: var(--bad-bg); }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(8.8rem, 1fr)); gap: .6rem; margin: 1rem 0; }
.figures div { background: var(--card); border: 1px solid var(--line); border-radius: .4rem; padding: .5rem .8rem; }
.figures b { display: block; font-size: 1.05rem; font-variant-numeric: tabular-nums; white-space: nowrap; }
.key { display: flex; flex-wrap: wrap; gap: .3rem 1.1rem; margin: 1rem 0 .6rem; color: var(--soft); }
.key svg { width: 1rem; height: .8rem; margin-right: .35rem; }
ol { list-style: none; margin: 0; padding: 0; }
li { background: var(--card); border: 1px solid var(--line); border-radius: .4rem; padding: .7rem 1rem;
  margin: .6rem 0; }
li.unexpected { border-color: var(--bad); }
li h3 { display: flex; flex-wrap: wrap; gap: .2rem .6rem; align-items: baseline; font-size: 1rem; margin: 0; }
li h3 .index { color: var(--soft); min-width: 1.4rem; font-variant-numeric: tabular-nums; }
.outcome { font: 600 12px/1.6 ui-monospace, Menlo, Consolas, monospace; padding: 0 .5rem; border-radius: 1rem;
  border: 1px solid currentColor; }
dl { display: grid; grid-template-columns: 5.2rem 1fr; gap: .1rem .8rem; margin: .4rem 0 .2rem; }
dt { color: var(--soft); } dd { margin: 0; overflow-wrap: anywhere; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; }
td, th { padding: .18rem 1.1rem .18rem 0; text-align: left; vertical-align: top; }
th { color: var(--soft); font-weight: normal; white-space: nowrap; } td.name { white-space: nowrap; }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
details { margin: .3rem 0 0; } summary { cursor: pointer; color: var(--soft); width: fit-content; }
pre { overflow-x: auto; margin: .4rem 0 0; padding: .5rem .7rem; border-radius: .3rem; background: var(--bg); }
.strip { display: block; width: 100%; height: auto; margin: .5rem 0 .1rem; }
.strip text.on { fill: var(--bg); font-weight: 600; }
.strip text { font: 10px ui-monospace, Menlo, Consolas, monospace; fill: var(--soft); }
.z-dma { fill: var(--dma); } .z-dma32 { fill: var(--dma32); } .z-normal { fill: var(--normal); }
.z-movable { fill: var(--movable); } .z-device { fill: var(--device); } .z-none { fill: var(--none); }
.offline { fill: url(#hatch); stroke: var(--soft); stroke-width: 1; } .hatch { stroke: var(--soft); stroke-width: 1.2; }
.ghost { fill: none; stroke: var(--line); stroke-dasharray: 3 3; } .cut { stroke: var(--cut); fill: none; }
.host { fill: var(--text); opacity: .55; }
@media print { body { background: none; } li { break-inside: avoid; } }
"""
