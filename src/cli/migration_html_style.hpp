// SPDX-License-Identifier: Apache-2.0
//
// How a migration's page looks, and the script that reads off its plots. Neither has a '<' or an '&': the page is XML, too.
//
// The colours are Okabe and Ito's, which most people who are colour-blind can tell apart; lines differ in their dashes as
// well.

#pragma once

namespace tidemark::cli {

inline constexpr const char* migration_style = R"css(
:root{color-scheme:light dark;--paper:#fff;--page:#f4f5f7;--ink:#1a2026;--soft:#5d6771;--rule:#e1e5e9;--edge:#c3cad1;
--blue:#0072b2;--red:#d55e00;--green:#009e73;--yellow:#e69f00;--sky:#56b4e9;--deep:#0072b2;--pink:#a8578a;--bad:#b3261e}
@media (prefers-color-scheme:dark){:root{--paper:#171c22;--page:#0f1317;--ink:#e4e8ec;--soft:#97a2ad;--rule:#2a323a;
--edge:#48535e;
--blue:#4da3e0;--red:#f08030;--green:#2fc296;--yellow:#f2b632;--sky:#8accf5;--deep:#2a78b5;--pink:#d48cb8;--bad:#ff8a80}}
*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--ink);
font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",
"Noto Sans","DejaVu Sans",sans-serif;font-variant-numeric:tabular-nums}
main{max-width:960px;margin:0 auto;padding:40px 24px 64px}
h1{font-size:clamp(22px,3.6vw,32px);line-height:1.25;font-weight:650;letter-spacing:-.015em;margin:6px 0 10px;
text-wrap:balance;
overflow-wrap:anywhere}
h2{font-size:15px;font-weight:650;margin:0}
p{margin:0}
.kicker{color:var(--soft);font-size:13px;letter-spacing:.02em}
main>header{margin-bottom:24px}
.failed h1{font-size:clamp(20px,3vw,26px)}
.failed .kicker b{color:var(--bad)}
.done .kicker b{color:var(--green)}
.route{color:var(--soft);overflow-wrap:anywhere}
.route b{color:var(--ink);font-weight:550}
.tiles{display:flex;flex-wrap:wrap;gap:1px;background:var(--rule);border:1px solid var(--rule);border-radius:10px;
overflow:hidden;
margin:28px 0 20px}
.tiles div{flex:1 1 148px;background:var(--paper);padding:14px 16px}
.tiles dt{color:var(--soft);font-size:13px}
.tiles dd{margin:2px 0 0;font-size:20px;font-weight:600;letter-spacing:-.01em;line-height:1.25;white-space:nowrap}
.tiles small{display:block;font-size:12.5px;font-weight:400;letter-spacing:0;color:var(--soft);white-space:normal;
line-height:1.4}
.card,.chart{background:var(--paper);border:1px solid var(--rule);border-radius:10px;padding:18px 20px;margin:0 0 16px}
.chart{padding-bottom:38px}
figcaption,.card header{display:flex;flex-wrap:wrap;align-items:baseline;gap:4px 20px;margin-bottom:16px}
.key{list-style:none;display:flex;flex-wrap:wrap;gap:2px 18px;margin:0;padding:0;color:var(--soft);font-size:13px}
.key b{color:var(--ink);font-weight:550}
.key.bands{margin:0 2px 12px}
.key i{display:inline-block;width:14px;height:10px;margin-right:6px;border-radius:2px;vertical-align:-1px}
.key i.bandwidth,.key i.remaining,.key i.throttle{height:3px;vertical-align:3px}
.key i.dirtied,.key i.wire{height:0;background:none;border-radius:0;border-top:3px dashed;vertical-align:3px}
.key i.turn{width:0;height:12px;border-left:1px solid var(--soft);border-radius:0}
.plot{position:relative;height:190px;margin:0 8px 0 76px;cursor:crosshair}
.low .plot{height:90px}
.plot svg{position:absolute;inset:0;width:100%;height:100%;overflow:visible;display:block}
.plot span{position:absolute;pointer-events:none}
.rule{left:0;right:0;height:0;border-top:1px solid var(--rule)}
.rule:first-child{border-color:var(--edge)}
.y,.x,.number{font-size:12px;line-height:16px;color:var(--soft);white-space:nowrap}
.y{right:100%;margin:0 10px -8px 0}
.x{top:100%;transform:translateX(-50%);padding-top:6px}
.number{top:-15px;padding-left:4px;font-size:11px}
.turn{top:0;bottom:0}
span.turn{width:0;border-left:1px solid var(--edge)}
.band{top:0;bottom:0;min-width:2px}
.paused{background:var(--pink);opacity:.42}
.held{background:repeating-linear-gradient(135deg,var(--edge) 0 2px,transparent 2px 7px);opacity:.8}
.recovering{background:repeating-linear-gradient(45deg,var(--yellow) 0 3px,transparent 3px 7px);opacity:.7}
.cursor{display:none;top:0;bottom:0;width:0;border-left:1px solid var(--ink)}
.line{fill:none;stroke-width:1.75;vector-effect:non-scaling-stroke;stroke-linejoin:round}
.area{stroke:none}
path.bandwidth,path.remaining{stroke:var(--blue)}
path.dirtied{stroke:var(--red);stroke-dasharray:7 3}
path.throttle{stroke:var(--yellow)}
path.wire{stroke:var(--ink);stroke-dasharray:2 3}
.area.bandwidth,.area.remaining{fill:var(--blue);opacity:.1}
.area.throttle{fill:var(--yellow);opacity:.2}
.area.data{fill:var(--deep)}
.area.repeated{fill:var(--yellow)}
.area.zero{fill:var(--sky)}
i.bandwidth,i.remaining{background:var(--blue)}
i.data{background:var(--deep)}
i.repeated,i.throttle{background:var(--yellow)}
i.zero{background:var(--sky)}
.key i.dirtied{border-color:var(--red)}
.key i.wire{border-top-style:dotted;border-color:var(--ink)}
.bars{display:grid;grid-template-columns:auto 1fr auto;gap:8px 12px;align-items:center;font-size:13px}
.bars .what{color:var(--soft)}
.bars .sum{font-weight:600;text-align:right}
.bar{position:relative;display:flex;height:26px}
.bar i{display:block;height:100%;border-right:1px solid var(--paper)}
.bar i:first-child{border-radius:4px 0 0 4px}
.bar i:last-of-type{border-radius:0 4px 4px 0;border-right:0}
.predicted .bar{height:14px}
.bars .predicted{display:contents}
.predicted i{opacity:.6}
i.pause{background:var(--yellow)}
i.sync{background:var(--green)}
i.send{background:var(--blue)}
i.hand_over{background:var(--pink)}
.target{position:absolute;top:-5px;bottom:-5px;width:0;border-left:2px dashed var(--ink)}
.scroll{overflow-x:auto;margin:0 -4px}
.bars+.scroll{margin-top:18px}
table{border-collapse:collapse;width:100%;font-size:13.5px}
th{font-weight:500;color:var(--soft);font-size:12.5px}
th,td{padding:5px 4px 5px 16px;text-align:right;white-space:nowrap;border-bottom:1px solid var(--rule)}
th:first-child,td:first-child{text-align:left;padding-left:4px}
tr:last-child td{border-bottom:0}
tr.last{font-weight:600}
td.left{text-align:left;white-space:normal;overflow-wrap:anywhere}
td.gap{text-align:center;color:var(--soft)}
.amount{width:28%}
.amount i{display:block;height:8px;border-radius:2px;background:var(--blue);min-width:1px}
.facts{display:grid;grid-template-columns:repeat(auto-fit,minmax(320px,1fr));gap:0 40px;margin:0}
.facts div{display:flex;justify-content:space-between;gap:16px;padding:5px 0;border-bottom:1px solid var(--rule)}
.facts dt{color:var(--soft)}
.facts dd{margin:0;text-align:right;overflow-wrap:anywhere;min-width:0}
footer{color:var(--soft);font-size:12.5px;margin-top:20px}
@media (max-width:560px){main{padding:24px 12px 40px}.card,.chart{padding-left:12px;padding-right:12px}.chart{
padding-bottom:36px}
.plot{height:160px;margin-left:66px}.y{margin-right:6px;font-size:11px}.x.odd{display:none}
.facts{grid-template-columns:1fr}.optional{display:none}}
@media print{body{background:none}.card,.chart{break-inside:avoid}}
)css";

inline constexpr const char* migration_script = R"js(
(function () {
  const samples = JSON.parse(document.getElementById("samples").textContent);
  const end = Number(document.getElementById("samples").dataset.end);
  const values = Array.from(document.querySelectorAll("[data-value]"));
  const resting = values.map(function (v) { return v.textContent; });
  const cursors = Array.from(document.querySelectorAll(".cursor"));
  const percent = 7;
  const rates = 1;

  function bytes(kib) {
    const units = ["KiB", "MiB", "GiB", "TiB"];
    let unit = 0;
    while (kib >= 999.5) {
      if (unit === units.length - 1) break;
      kib /= 1024;
      unit += 1;
    }
    return (kib === 0 ? "0" : kib.toPrecision(3)) + " " + units[unit];
  }
  function told(which, value) {
    if (which === percent) return value + " %";
    return which > rates ? bytes(value) : bytes(value) + "/s";
  }
  function nearest(ms) {
    let low = 0;
    let high = samples.length - 1;
    while (high - low > 1) {
      const middle = (low + high) >> 1;
      if (samples[middle][0] > ms) high = middle; else low = middle;
    }
    return ms - samples[low][0] > samples[high][0] - ms ? samples[high] : samples[low];
  }
  function point(share) {
    const at = nearest(share * end);
    values.forEach(function (v) {
      const which = Number(v.dataset.value);
      v.textContent = told(which, at[which + 1]);
    });
    cursors.forEach(function (c) { c.style.display = "block"; c.style.left = 100 * share + "%"; });
  }
  function leave() {
    values.forEach(function (v, i) { v.textContent = resting[i]; });
    cursors.forEach(function (c) { c.style.display = "none"; });
  }
  document.querySelectorAll(".plot").forEach(function (plot) {
    plot.addEventListener("pointermove", function (event) {
      const box = plot.getBoundingClientRect();
      point(Math.min(1, Math.max(0, (event.clientX - box.left) / box.width)));
    });
    plot.addEventListener("pointerleave", leave);
  });
})();
)js";

}  // namespace tidemark::cli
