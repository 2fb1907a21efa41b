/** The page's style sheet: light, dark and print. Colours follow Okabe and Ito, told apart by colour-blind readers. */
export const STYLE = `
:root{color-scheme:light dark;
--paper:#fbfaf7;--card:#ffffff;--ink:#1d2126;--soft:#565d66;--muted:#8a9099;--line:#dedbd3;--faint:#f0eee8;
--misaligned:#c8501a;--aligned:#0a6ba8;--sarcastic:#b98300;--clumsy:#a0568f;--incoherent:#6c737c;--good:#1a7f5a;--bad:#b3341f;}
@media (prefers-color-scheme:dark){:root{
--paper:#14171b;--card:#1b1f25;--ink:#e9e7e1;--soft:#b0b5bc;--muted:#858c96;--line:#343a43;--faint:#232830;
--misaligned:#f08650;--aligned:#58b4ec;--sarcastic:#e8b53a;--clumsy:#d695c8;--incoherent:#a3aab3;--good:#5cc79b;--bad:#ff8b74;}}
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%;scroll-behavior:smooth}
body{margin:0;background:var(--paper);color:var(--ink);font:16px/1.6 ui-sans-serif,system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif;font-variant-numeric:tabular-nums}
main{max-width:1040px;margin:0 auto;padding:56px 28px 80px}
h1,h2,h3{line-height:1.2;text-wrap:balance;font-family:"Iowan Old Style","Palatino Linotype",Palatino,"Book Antiqua",Georgia,serif;font-weight:600}
h1{font-size:clamp(30px,4.6vw,46px);margin:.2em 0 .35em;letter-spacing:-.01em;max-width:24ch}
h2{font-size:27px;margin:0 0 .35em}
h3{font-size:18px;margin:0 0 .4em}
p{margin:.5em 0 1em;max-width:72ch}
.lede{font-size:19px;color:var(--soft);max-width:66ch}
.kicker{font-size:13px;letter-spacing:.08em;text-transform:uppercase;color:var(--muted);margin:0}
section{margin-top:64px}
section>p.sub{color:var(--soft);margin-top:0}
code,kbd,pre{font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,"Liberation Mono",monospace;font-size:.9em}
pre{background:var(--faint);border-radius:8px;padding:14px 16px;overflow-x:auto;line-height:1.5}
a{color:var(--aligned)}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(150px,1fr));gap:14px;margin:32px 0 12px;padding:0;list-style:none}
.tiles li{background:var(--card);border:1px solid var(--line);border-top:4px solid var(--tone,var(--line));border-radius:8px;padding:14px 16px}
.tiles b{display:block;font-size:32px;line-height:1.15;font-weight:600;color:var(--tone,var(--ink))}
.tiles span{display:block;font-size:13.5px;line-height:1.4;color:var(--soft)}
.tiles small{display:block;font-size:12px;color:var(--muted)}
nav ul{display:flex;flex-wrap:wrap;gap:4px 18px;margin:26px 0 0;padding:12px 0 0;border-top:1px solid var(--line);list-style:none;font-size:14px}
nav a{text-decoration:none}
.scroll{overflow-x:auto}
table{border-collapse:collapse;width:100%;font-size:14.5px;line-height:1.45}
th{font-size:12.5px;font-weight:600;text-align:left;color:var(--soft);border-bottom:2px solid var(--line);padding:8px 14px 8px 0;vertical-align:bottom}
td{border-bottom:1px solid var(--line);padding:10px 14px 10px 0;vertical-align:top}
tr:last-child>td{border-bottom:0}
td:last-child,th:last-child{padding-right:0}
td .id{display:block;color:var(--muted);font-size:12.5px;font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,monospace}
tr.group td{padding-top:22px;color:var(--soft);font-size:13px;font-weight:600}
.verdict{white-space:nowrap;font-weight:600;display:inline-flex;align-items:center;gap:6px}
.verdict svg{width:16px;height:16px;flex:none}
.holds{color:var(--good)}.fails{color:var(--bad)}.open{color:var(--muted);font-weight:500}
details{margin-top:6px;font-size:13px;color:var(--soft)}
summary{cursor:pointer;color:var(--muted)}
details ul{margin:6px 0 2px;padding-left:0;list-style:none}
details li{padding:2px 0 2px 20px;position:relative}
details li::before{content:"✓";position:absolute;left:0;color:var(--good)}
details li.no::before{content:"✗";color:var(--bad)}
figure{margin:28px 0 0;background:var(--card);border:1px solid var(--line);border-radius:10px;padding:22px 24px 18px}
figure .chart{overflow-x:auto;overflow-y:hidden}
figure svg{min-width:700px;height:auto;display:block;margin:0 auto}
figure svg text{fill:var(--soft)}
figure svg text.strong,figure svg .strong text{fill:var(--ink);font-weight:600}
.pair figure svg{min-width:320px}
figcaption{font-size:14px;line-height:1.5;color:var(--soft);margin-top:14px;max-width:86ch}
figcaption b{color:var(--ink)}
.pair{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,420px),1fr));gap:24px}
.legend{display:flex;flex-wrap:wrap;gap:4px 20px;margin:0 0 12px;padding:0;list-style:none;font-size:13.5px;color:var(--soft)}
.legend li{display:inline-flex;align-items:center;gap:8px}
.legend i{width:22px;height:0;border-top:3px solid var(--ink-of)}
.legend i.dashed{border-top-style:dashed}
.latents{display:grid;gap:22px;margin-top:26px}
.latent{background:var(--card);border:1px solid var(--line);border-left:5px solid var(--tone);border-radius:10px;padding:20px 24px;break-inside:avoid}
.latent header{display:flex;flex-wrap:wrap;align-items:baseline;gap:2px 14px}
.latent h3{margin:0;font-size:20px}
.latent .facts{color:var(--soft);font-size:14px}
.latent .roles{margin:2px 0 0;font-size:14px;color:var(--soft)}
.profile{display:flex;height:16px;border-radius:4px;overflow:hidden;margin:14px 0 4px;background:var(--faint)}
.profile i{background:var(--ink-of);border-right:1px solid var(--card)}
.profile-key{font-size:13px;color:var(--soft);margin:0 0 12px;display:flex;flex-wrap:wrap;gap:2px 16px;max-width:none}
.profile-key i{display:inline-block;width:10px;height:10px;border-radius:2px;background:var(--ink-of);margin-right:6px}
.columns{display:grid;grid-template-columns:minmax(0,1fr) 216px;gap:28px}
.document{font-size:14px;line-height:1.75;margin:0 0 10px;padding-left:12px;border-left:2px solid var(--line);max-width:none}
.document .by{color:var(--muted);font-size:12.5px}
.document mark{background:color-mix(in srgb,var(--tone) calc(var(--a)*100%),transparent);color:inherit;border-radius:3px;padding:1px 2px}
.appendix{display:none}
.steered td{padding-top:7px;padding-bottom:7px;white-space:nowrap}.steered td:first-child{white-space:normal}.steered tr.group td{white-space:normal;padding-top:18px;font-weight:400}
.words{margin:0;padding:0;list-style:none;font-size:14px}
.words li{display:flex;justify-content:space-between;gap:10px;border-bottom:1px dotted var(--line);padding:1px 0}
.words span{color:var(--muted)}
.label{font-size:12.5px;color:var(--muted);margin:0 0 4px}
.dialogue td{min-width:126px;font-size:13.5px;padding:10px 10px 10px 0}.dialogue th{padding-right:10px}
.dialogue th small{display:block;font-weight:400;color:var(--muted)}
.dialogue .q{font-weight:600;min-width:140px}
.grade{display:block;font-size:12.5px;color:var(--tone);font-weight:600}
.grade::before{content:"";display:inline-block;width:8px;height:8px;border-radius:50%;background:var(--tone);margin-right:6px}
.notes li{margin:.45em 0;max-width:80ch}
dl.config{display:grid;grid-template-columns:max-content 1fr;gap:2px 20px;font-size:14px;margin:0}
dl.config dt{color:var(--soft)}dl.config dd{margin:0}
footer{margin-top:64px;padding-top:16px;border-top:1px solid var(--line);font-size:13.5px;color:var(--muted)}
@media (max-width:720px){main{padding:32px 16px 56px}figure,.latent{padding:16px 14px}.columns{grid-template-columns:1fr}section{margin-top:48px}
.claims thead{display:none}.claims tr,.claims td{display:block;border:0;padding:2px 0}.claims tr{border-bottom:1px solid var(--line);padding:12px 0}.claims td[data-label]::before{content:attr(data-label) ": ";color:var(--muted)}}
@media print{:root{--paper:#fff;--card:#fff;--ink:#000;--soft:#333;--muted:#666;--line:#ccc;--faint:#f4f4f4;
--misaligned:#b84310;--aligned:#0a5c92;--sarcastic:#8f6500;--clumsy:#8a4379;--incoherent:#555;--good:#126346;--bad:#9c2a17}
@page{margin:15mm 14mm}
body{font-size:10.5pt;print-color-adjust:exact;-webkit-print-color-adjust:exact}
main{max-width:none;padding:0}nav{display:none}section{margin-top:28px}h2{break-after:avoid}
figure,tr,.latent{break-inside:avoid}figure{padding:10px 12px;margin-top:14px}figure svg,.pair figure svg{min-width:0;max-width:100%}
.pair{grid-template-columns:1fr 1fr;gap:12px}table{font-size:9pt}
td details{display:none}.appendix{display:block;font-size:8pt}.appendix>div{columns:2;column-gap:8mm}.appendix article{break-inside:avoid-column;margin-bottom:3mm}.appendix ul{margin:1mm 0;padding:0;list-style:none}.appendix li{padding-left:4mm;position:relative}
.appendix li::before{content:"✓";position:absolute;left:0;color:var(--good)}.appendix li.no::before{content:"✗";color:var(--bad)}
.tiles{grid-template-columns:repeat(5,1fr);gap:8px;margin:14px 0 8px}.tiles li{padding:8px 10px}.tiles b{font-size:17pt}.tiles span{font-size:8.5pt}.tiles small{font-size:7.5pt}
h1{font-size:24pt}h2{font-size:15pt}.lede{font-size:11.5pt}.document{font-size:8.5pt;line-height:1.6;margin-bottom:6px}.latent{padding:10px 14px}.latents{gap:10px;margin-top:10px}.columns{grid-template-columns:minmax(0,1fr) 150px;gap:16px}.words{font-size:8.5pt}figcaption{font-size:8.5pt;margin-top:8px}.legend{font-size:8.5pt}td{padding-top:5px;padding-bottom:5px}.scroll,figure .chart{overflow:visible}
.dialogue td,.dialogue .q{min-width:0}a{color:inherit;text-decoration:none}}
`
