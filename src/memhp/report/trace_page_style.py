"""The style of a trace's page: the names of colours that the page of a rehearsal has, and a colour for each CPU."""
# SPDX-License-Identifier: GPL-2.0-or-later

STYLE = """
:root { color-scheme: light dark;
  --bg: #f7f8f8; --card: #ffffff; --text: #1b2126; --soft: #5b6771; --line: #dde2e5; --pick: #eaf1fd;
  --good: #1c7440; --bad: #b3261e; --warn: #8a5a00; --good-bg: #e6f4ea; --bad-bg: #fdeceb; --warn-bg: #fbf0d9;
  --c0: #2f62c4; --c1: #b3560f; --c2: #15807a; --c3: #8a3fb0; --c4: #3c7a1e; --c5: #a8325e;
  --store: #8a5a00; --lock: #15727a; --flush: #8a3fb0; --frames: #2c7a45; --blocks: #2f62c4; }
@media (prefers-color-scheme: dark) { :root {
  --bg: #14171a; --card: #1c2024; --text: #e7eaec; --soft: #9aa6b0; --line: #2f363c; --pick: #223048;
  --good: #74d296; --bad: #ff8f86; --warn: #e6b35a; --good-bg: #18301f; --bad-bg: #3a1d1b; --warn-bg: #33290f;
  --c0: #7ba6f5; --c1: #eda061; --c2: #57c4bc; --c3: #c78eea; --c4: #93c96f; --c5: #ee86ae;
  --store: #e6b35a; --lock: #62c6cf; --flush: #c78eea; --frames: #74d296; --blocks: #7ba6f5; } }
* { box-sizing: border-box; }
[hidden] { display: none !important; }
body { margin: 0; background: var(--bg); color: var(--text); font: 15px/1.5 system-ui, -apple-system, sans-serif; }
header, main, footer { max-width: 92rem; margin: 0 auto; padding: 0 1.25rem; }
header { padding-top: 1.5rem; }
h1 { font-size: 1.45rem; line-height: 1.25; margin: 0 0 .2rem; display: flex; flex-wrap: wrap; gap: .2rem .8rem;
  align-items: center; }
h2 { font-size: 1rem; margin: 0; } h3 { font-size: .8rem; margin: 1.1rem 0 .3rem; color: var(--soft);
  font-weight: 600; }
p { margin: .25rem 0; overflow-wrap: anywhere; }
code, kbd, .mono, .place, .values { font: 12.5px/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
.soft { color: var(--soft); }
.chip { font-size: .82rem; font-weight: 600; padding: .12rem .65rem; border-radius: 1rem; }
.chip.good { color: var(--good); background: var(--good-bg); } .chip.bad { color: var(--bad);
  background: var(--bad-bg); }
.chip.warn { color: var(--warn); background: var(--warn-bg); }
.reason { color: var(--bad); font-weight: 600; overflow-wrap: anywhere; }
details { margin: .2rem 0; } summary { cursor: pointer; color: var(--soft); width: fit-content; }
details ul { margin: .2rem 0 .5rem; padding-left: 1.3rem; color: var(--soft); }
.schedule { display: flex; flex-wrap: wrap; gap: .4rem .6rem; align-items: center; margin: .7rem 0 .9rem; }
.schedule code { background: var(--card); border: 1px solid var(--line); border-radius: .35rem; padding: .15rem .6rem;
  max-width: 100%; max-height: 4.5rem; overflow: auto; overflow-wrap: anywhere; user-select: all; }
button { font: inherit; font-size: .82rem; color: inherit; background: var(--card); border: 1px solid var(--line);
  border-radius: .35rem; padding: .15rem .6rem; cursor: pointer; }
button:hover { border-color: var(--soft); }
button:focus-visible, .row:focus-visible, summary:focus-visible { outline: 2px solid var(--c0); outline-offset: 1px; }
.bar { position: sticky; top: 0; z-index: 3; background: var(--bg); border-block: 1px solid var(--line); display: flex;
  gap: .5rem 1rem; align-items: center; padding: .4rem max(1.25rem, calc((100vw - 92rem) / 2 + 1.25rem)); }
.steps { display: flex; gap: .25rem; align-items: center; white-space: nowrap; font-variant-numeric: tabular-nums; }
.steps button { padding: .3rem .5rem; line-height: 0; } .steps svg { width: .8rem; height: .8rem; fill: currentColor;
  } .steps output { min-width: 2.6rem; text-align: right; font-weight: 600; }
.run { position: relative; flex: 1; min-width: 4rem; } .strip { display: block; width: 100%; height: 2.1rem; }
.strip rect { cursor: pointer; } #now { position: absolute; top: 0; bottom: 0; width: 2px; background: var(--text);
  pointer-events: none; }
.tabs { display: flex; } .tabs button { border-radius: 0; }
.tabs button:first-child { border-radius: .35rem 0 0 .35rem; }
.tabs button:last-child { border-radius: 0 .35rem .35rem 0; border-left: 0; }
.tabs [aria-selected=true] { background: var(--text); color: var(--bg); border-color: var(--text); }
main { display: grid; grid-template-columns: minmax(0, 1fr) minmax(20rem, 27rem); gap: 1.5rem; align-items: start;
  padding-top: .6rem; }
main.alone { display: block; padding: 1.5rem 1.25rem; }
.grid, .row { display: grid; grid-template-columns: 5.4rem repeat(var(--cpus), minmax(0, 1fr)); gap: 0 .8rem; }
.names { position: sticky; top: 2.9rem; z-index: 2; background: var(--bg); padding: .35rem 0; border-bottom: 1px solid
  var(--line); }
.names b { color: var(--hue); overflow-wrap: anywhere; } .names i { font: inherit; font-weight: 400; color: var(--soft);
  border: 1px solid var(--line); border-radius: .25rem; padding: 0 .35rem; font-size: .78rem; }
.rows { list-style: none; margin: 0; padding: 0 0 1rem; }
.row, .event { scroll-margin: 7rem 0 3rem; }
.row { padding: .06rem 0; border-left: 3px solid transparent; border-radius: .3rem; cursor: pointer; }
.row:hover { background: color-mix(in srgb, var(--pick) 55%, transparent); }
.row.picked { background: var(--pick); border-left-color: var(--c0); }
.row.switch { margin-top: .55rem; position: relative; }
.row.switch::before { content: ""; position: absolute; left: 0; right: 0; top: -.3rem;
  border-top: 1px dashed var(--line); }
.row.bad { background: var(--bad-bg); } .row.bad.picked { border-left-color: var(--bad); }
.n { color: var(--soft); font-size: .8rem; text-align: right; font-variant-numeric: tabular-nums; align-self: end;
  white-space: nowrap; padding-bottom: .1rem; }
.cell { grid-column: var(--at); border-left: 2px solid var(--hue); padding-left: .55rem; min-width: 0; }
.who { display: none; color: var(--hue); font-weight: 600; font-size: .85rem; }
.place { display: block; color: var(--soft); overflow-wrap: anywhere; }
.does { display: block; overflow-wrap: anywhere; } .values { color: var(--soft); margin-left: .6rem; }
em { font: inherit; font-size: .88rem; font-weight: 600; }
em.store, em.write, em.atomic { color: var(--store); } em.flush { color: var(--flush); }
em.lock, em.trylock, em.unlock, em.wait { color: var(--lock); }
em.claim, em.release, em.retag, em.allocate { color: var(--frames); }
.fold { padding: 0 .3rem; margin-right: .35rem; line-height: 1.2; }
.fold[aria-expanded=true] { transform: rotate(90deg); } .row.inner { opacity: .92; }
.row.inner .cell { padding-left: 1.5rem; }
.row.inner .place { display: none; }
.dots { margin-left: .5rem; white-space: nowrap; } .dots:empty { display: none; }
.dot { display: inline-block; width: .5rem; height: .5rem;
  border-radius: 50%; margin-right: .2rem; background: var(--soft); }
.dot.entry, .dot.variable { background: var(--store); } .dot.lock { background: var(--lock); }
.dot.stale { background: var(--flush); } .dot.frames { background: var(--frames); }
.dot.exposed, .dot.broken { background: var(--bad); }
.dot.section, .dot.block, .dot.zone, .dot.pages, .dot.memblock, .dot.iomem, .dot.mapping { background: var(--blocks); }
aside { position: sticky; top: 3.6rem; max-height: calc(100vh - 4.4rem); overflow: auto; background: var(--card);
  border: 1px solid var(--line); border-radius: .5rem; padding: .9rem 1.1rem 1.1rem; overflow-wrap: anywhere; }
aside h2 .who { display: inline; font-size: 1rem; } aside .place { margin: .1rem 0 .5rem; }
.does.large { font-size: 1rem; } .does.large code { font-size: 13.5px; }
.values2 { display: grid; gap: .4rem; margin: .6rem 0; }
.values2 > div { border: 1px solid var(--line); border-radius: .35rem; padding: .3rem .6rem; }
.values2 span { color: var(--soft); font-size: .78rem; margin-right: .5rem; } .values2 small { display: block; }
.change { display: grid; grid-template-columns: 4.6rem 1fr; gap: 0 .5rem; margin: .3rem 0; font-size: .88rem; }
.change > b { font-size: .78rem; font-weight: 600; color: var(--soft); padding-top: .08rem; }
.change.exposed > b, .change.broken > b, .change.broken > div { color: var(--bad); }
.change.entry > b { color: var(--store); }
.change.lock > b { color: var(--lock); } .change.stale > b { color: var(--flush); }
.change.frames > b { color: var(--frames); }
.change .to { display: block; color: var(--soft); } .change .to i { font-style: normal; color: var(--text); }
.scroll { overflow: auto; max-height: calc(100vh - 5rem); border: 1px solid var(--line); border-radius: .5rem;
  background: var(--card); }
.heads { position: sticky; top: 0; z-index: 1; display: flex; background: var(--card);
  border-bottom: 1px solid var(--line); }
.heads b { flex: 0 0 124px; text-align: center; font-size: .78rem; line-height: 1.3; padding: .4rem .3rem;
  align-self: end;
  color: var(--hue, var(--text)); overflow-wrap: anywhere; }
.scroll svg { display: block; } .life { stroke: var(--line); stroke-width: 1.5; }
.scroll text { font: 11px ui-monospace, Menlo, Consolas, monospace; fill: var(--text); paint-order: stroke;
  stroke: var(--card); stroke-width: 4px; stroke-linejoin: round; }
.event { cursor: pointer; } .event path { stroke: var(--hue); stroke-width: 1.4; fill: none; }
.event .hit { fill: transparent; }
.event circle { fill: var(--hue); } .tip { fill: context-stroke; stroke: none; }
.event:hover .hit { fill: color-mix(in srgb, var(--pick) 55%, transparent); } .event.picked .hit { fill: var(--pick); }
.event.picked text { stroke: var(--pick); font-weight: 600; }
.event.load path, .event.read path { stroke-dasharray: 4 3; }
.event.bad text { fill: var(--bad); font-weight: 600; } .event.bad path { stroke: var(--bad); }
.runs, .holds, .strip rect { fill: var(--hue); } .runs, .holds { pointer-events: none; }
.holds { opacity: .45; }
.cpu0 { --hue: var(--c0); } .cpu1 { --hue: var(--c1); } .cpu2 { --hue: var(--c2); } .cpu3 { --hue: var(--c3); }
.cpu4 { --hue: var(--c4); } .cpu5 { --hue: var(--c5); }
footer { display: flex; flex-wrap: wrap; gap: .3rem 1.1rem; color: var(--soft); font-size: .8rem;
  padding-block: 1rem 2rem; }
kbd { border: 1px solid var(--line); border-radius: .25rem; padding: 0 .35rem; background: var(--card); }
@media (max-width: 60rem) {
  main { grid-template-columns: minmax(0, 1fr); }
  aside { position: fixed; left: 0; right: 0; bottom: 0; top: auto; z-index: 4; max-height: 38vh;
  border-radius: .8rem .8rem
    0 0; border-width: 1px 0 0; box-shadow: 0 -4px 18px #0003; padding: .7rem 1.1rem; }
  aside h2 { cursor: pointer; } aside.small { max-height: 2.9rem; overflow: hidden; }
  .rows, footer { padding-bottom: 40vh; } .scroll { max-height: 56vh; } .row { scroll-margin-bottom: 42vh; } }
@media (max-width: 44rem) {
  header, main { padding-inline: .8rem; } .bar { padding-inline: .8rem; flex-wrap: wrap; } .run { order: 3;
  flex-basis: 100%; }
  .names { display: none; } .grid, .row { grid-template-columns: 3.6rem minmax(0, 1fr); gap: 0 .5rem; }
  .cell { grid-column: 2; } .row .who { display: block; } .tabs { margin-left: auto; } #first, #last { display: none;
  } .bar { gap: .3rem 1rem; }
  .strip { height: 1.5rem; }
  .values { margin-left: .4rem; } .n { font-size: .72rem; } footer { visibility: hidden; } }
@media print { .bar, aside, footer, .schedule button { display: none; } main { display: block; } }
"""
