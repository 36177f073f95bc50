"""How the page looks: one style sheet, which the header of the answer names by its digest."""

from __future__ import annotations

import base64
import hashlib

STYLE = """
:root{color-scheme:light dark;--ground:#f4f6f8;--card:#fff;--text:#1b2127;--soft:#525d69;--line:#d5dbe1;--blue:#0b57a4;
--area:#dbe8f6;--ok:#14652c;--ok-ground:#e2f3e7;--warn:#7a4a00;--warn-ground:#fdf0d5;--bad:#a0111f;--bad-ground:#fde7e8;
--note:#31547a;--note-ground:#e6eef7;--code:#eef1f4;--bar:#5b8fc7;--synced:#7fb08d;--gap:#c9323f}
@media (prefers-color-scheme:dark){:root{--ground:#0e1318;--card:#161c23;--text:#e4e9ee;--soft:#a2adb8;--line:#2d3742;
--blue:#7db7f2;--area:#1d3450;--ok:#7fd79a;--ok-ground:#12301d;--warn:#f0c163;--warn-ground:#37290c;--bad:#ff9a98;
--bad-ground:#411a1d;--note:#a9c8ea;--note-ground:#1a2a3c;--code:#222a33;--bar:#4f86c0;--synced:#3f7a52;--gap:#ff7a78}}
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%}
body{margin:0;background:var(--ground);color:var(--text);font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,
"Helvetica Neue",Arial,sans-serif;overflow-wrap:break-word}
bdi,code,.todo p{overflow-wrap:anywhere}
time,td.number{white-space:nowrap}
header,main,footer{max-width:75rem;margin:0 auto;padding:0 1rem}
header{display:flex;flex-wrap:wrap;gap:.1rem 1.2rem;align-items:baseline;padding-top:1.1rem}
header p,footer{color:var(--soft);font-size:.9rem}
header p{margin:0}
a{color:var(--blue)}
:focus-visible{outline:2px solid var(--blue);outline-offset:2px}
.skip{position:absolute;left:-99rem}
.skip:focus{left:1rem;top:.5rem;background:var(--card);padding:.3rem .6rem}
h1{font-size:1.3rem;margin:0}
h2{font-size:1.05rem;margin:1.6rem 0 .6rem}
h3{font-size:1.05rem;margin:0;display:inline}
h4{font-size:.95rem;margin:0 0 .2rem}
p{margin:.3rem 0}
.defs{position:absolute}
.card{background:var(--card);border:1px solid var(--line);border-radius:.5rem;padding:.8rem 1rem;min-width:0}
.answers{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(17rem,100%),1fr));gap:.8rem;margin-top:1rem}
.answers h2{margin:0;font-size:.95rem;color:var(--soft);font-weight:600}
.answers .short{font-size:1.25rem;font-weight:650;margin:.1rem 0 .2rem}
.ok{color:var(--ok)}.warn{color:var(--warn)}.bad{color:var(--bad)}.note{color:var(--note)}
.badge{display:inline-block;border-radius:1rem;padding:.05rem .6rem;font-size:.85rem;font-weight:600;white-space:nowrap}
.badge.ok{background:var(--ok-ground)}.badge.warn{background:var(--warn-ground)}.badge.bad{background:var(--bad-ground)}
.badge.note{background:var(--note-ground)}
.todo{list-style:none;margin:.2rem 0 .9rem;padding:0;display:grid;gap:.7rem 1.2rem;
grid-template-columns:repeat(auto-fit,minmax(min(27rem,100%),1fr))}
.todo.card{padding:1rem}
.todo>li{border-left:.3rem solid var(--line);padding:.1rem 0 .1rem .8rem;min-width:0}
.todo>li.bad{border-color:var(--gap)}.todo>li.warn{border-color:var(--warn)}.todo>li.note{border-color:var(--note)}
.todo>li.bad,.todo>li.warn,.todo>li.note{color:inherit}
.todo strong{font-weight:650}
.todo p{margin:.15rem 0}
.soft{color:var(--soft)}
.small{font-size:.87rem}
code{font:.87em/1.4 ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace;background:var(--code);
border-radius:.25rem;padding:.1rem .35rem}
code.type{display:inline-block;padding:.25rem .6rem;margin:.25rem 0;user-select:all;border:1px solid var(--line)}
table{border-collapse:collapse;width:100%;font-size:.9rem}
caption{text-align:left;color:var(--soft);font-size:.87rem;padding:0 0 .3rem}
th,td{text-align:left;padding:.32rem .8rem .32rem 0;border-top:1px solid var(--line);vertical-align:middle;
font-weight:400}
thead th{font-weight:600;color:var(--soft);border-top:0;font-size:.85rem}
td.number,th.number{text-align:right;font-variant-numeric:tabular-nums}
tbody th{font-weight:500}
.scroll{overflow-x:auto}
.spark{width:8rem;height:1.5rem;display:block}
details.source{background:var(--card);border:1px solid var(--line);border-radius:.5rem;margin:0 0 .8rem;min-width:0}
details.source>summary{padding:.7rem 1rem;cursor:pointer}
details.source>summary .badge{margin:0 .6rem}
.inside{padding:0 1rem 1rem;scroll-margin-top:4rem}
.figures{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(9.5rem,46%),1fr));gap:.6rem 1rem;
margin:.4rem 0 1rem}
.figures div{min-width:0}
.figures dt{color:var(--soft);font-size:.85rem}
.figures dd{margin:0;font-size:1.15rem;font-weight:600;font-variant-numeric:tabular-nums;line-height:1.35}
.figures dd small{display:block;font-size:.83rem;font-weight:400;color:var(--soft);line-height:1.4}
.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(24rem,100%),1fr));gap:1rem 1.6rem}
figure{margin:0 0 1rem;min-width:0}
figcaption{font-size:.87rem;color:var(--soft);margin-bottom:.3rem}
figcaption b{color:var(--text);font-weight:600}
.chart{width:100%;height:5rem;display:block;border-bottom:1px solid var(--line);border-top:1px dashed var(--line)}
.timeline{width:100%;height:1.4rem;display:block;border:1px solid var(--line);border-radius:.2rem}
.axis{display:flex;justify-content:space-between;font-size:.8rem;color:var(--soft);font-variant-numeric:tabular-nums}
.line{fill:none;stroke:var(--blue);stroke-width:1.6;vector-effect:non-scaling-stroke}
.area{fill:var(--area)}
.bars{fill:var(--bar)}
.mark{fill:none;stroke:var(--gap);stroke-width:2;stroke-dasharray:3 2;vector-effect:non-scaling-stroke}
.gap-ground{fill:var(--card)}.gap-line{stroke:var(--gap);stroke-width:2}
.backfilled-ground{fill:var(--area)}.backfilled-line{stroke:var(--bar);stroke-width:1.5}
.is-live{fill:var(--synced)}
.is-gap{stroke:var(--gap);stroke-width:1;vector-effect:non-scaling-stroke}
.is-none{fill:var(--card)}
.meter{width:100%;max-width:14rem;height:.5rem;display:block;margin:.2rem 0;border-radius:.25rem}
.meter-ground{fill:var(--line)}.meter-filled{fill:var(--bar)}
.key{display:flex;flex-wrap:wrap;gap:.1rem 1.1rem;list-style:none;padding:0;margin:.3rem 0;font-size:.85rem;
color:var(--soft)}
.key svg{width:1.3rem;height:.75rem;border:1px solid var(--line);margin-right:.35rem;vertical-align:-.05rem}
.plain{margin:.2rem 0;padding-left:1.1rem}
.gaps{columns:2 20rem;max-width:48rem}
.blocks{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(19rem,100%),1fr));gap:1rem 2rem;
margin-top:1rem}
.blocks>div{min-width:0}
.whole{margin-top:1rem}
.brief{list-style:none;margin:.4rem 0 .8rem;padding:0;display:grid;gap:.3rem}
th code{white-space:nowrap;display:block;width:fit-content;margin-top:.15rem}
th .badge{margin-left:.6rem}
details.more{margin:.2rem 0 .8rem;font-size:.9rem}
details.more>summary{cursor:pointer;color:var(--blue)}
footer{padding:1rem;border-top:1px solid var(--line);margin-top:1.6rem}
@media (max-width:46rem){.wide{display:none}code.type{display:block}th code{font-size:.78em}
th .badge{margin:.1rem 0;display:block;width:fit-content}th,td{padding-right:.45rem}table{font-size:.86rem}
td:last-child,th:last-child{padding-right:0}.inside,details.source>summary{padding-left:.8rem;padding-right:.8rem}}
@media print{details.source{break-inside:avoid}}
"""

_DIGEST = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode("ascii")
#: Nothing is loaded, run, sent or framed.
POLICY = (
    f"default-src 'none'; style-src 'sha256-{_DIGEST}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
