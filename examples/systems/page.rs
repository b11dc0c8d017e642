//! The HTML that the five systems share: one sheet of style, no script, nothing from the network.

use axum::response::Html;

const CSS: &str = "\
:root { color-scheme: light dark; --bg: #f6f5f2; --card: #fff; --ink: #22262b; --soft: #666d76;
  --line: #0002; --accent: #0a5fb0; --accent-ink: #fff; --good: #1c7a43; --bad: #b3261e }
@media (prefers-color-scheme: dark) { :root { --bg: #15171a; --card: #1e2125; --ink: #e8e6e1;
  --soft: #9aa1aa; --line: #fff2; --accent: #7ab8f5; --accent-ink: #10202f; --good: #6ecb93;
  --bad: #ff8f86 } }
* { box-sizing: border-box }
body { margin: 0; padding: 2.5rem 1rem 4rem; background: var(--bg); color: var(--ink);
  font: 16px/1.55 system-ui, sans-serif }
main { max-width: 42rem; margin: 0 auto }
header { display: flex; align-items: baseline; gap: .8rem; margin: 0 0 1.2rem }
h1 { font-size: 1.5rem; margin: 0; letter-spacing: -.01em }
h2 { font-size: 1.05rem; margin: 0 0 .7rem }
.system { color: var(--soft); font-size: .85rem }
section { background: var(--card); border: 1px solid var(--line); border-radius: .8rem;
  padding: 1.2rem 1.4rem; margin: 0 0 1rem }
section > :last-child { margin-bottom: 0 } section > :first-child { margin-top: 0 }
p { margin: .5rem 0 } a { color: var(--accent) }
label { display: block; margin: .7rem 0; color: var(--soft); font-size: .9rem }
input, textarea { display: block; width: 100%; margin: .2rem 0 0; padding: .5rem .6rem;
  font: inherit; color: var(--ink); background: var(--bg); border: 1px solid var(--line);
  border-radius: .45rem }
textarea { font: 13px/1.5 ui-monospace, monospace; min-height: 7rem }
button, input[type=submit] { display: inline-block; width: auto; margin: .3rem .4rem .3rem 0;
  padding: .45rem 1rem; font: inherit; font-weight: 600; color: var(--accent-ink);
  background: var(--accent); border: 0; border-radius: .45rem; cursor: pointer }
button.quiet { color: var(--ink); background: transparent; border: 1px solid var(--line) }
:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px }
form.row { display: inline-block }
pre, code { font: 13px/1.5 ui-monospace, monospace; overflow-wrap: anywhere }
pre { white-space: pre-wrap; margin: .5rem 0 }
table { width: 100%; border-collapse: collapse; font-size: .92rem }
th, td { text-align: left; padding: .4rem .6rem .4rem 0; border-bottom: 1px solid var(--line);
  overflow-wrap: anywhere }
th { color: var(--soft); font-weight: 500 } tr:last-child > * { border-bottom: 0 }
.notice { border-left: .3rem solid var(--good) } .alert { border-left: .3rem solid var(--bad) }
.soft { color: var(--soft); font-size: .9rem }
[hidden] { display: none }
";

/// Text as it may stand in HTML, between tags and in quoted attributes.
pub(crate) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c => escaped.push(c),
        }
    }
    escaped
}

/// A page of a system with this body, which is HTML; so is the title.
pub(crate) fn page(system: &str, title: &str, body: &str) -> Html<String> {
    Html(format!(
        r#"<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{title} - {system}</title>
<link rel="icon" href="data:,">
<style>{CSS}</style>
</head>
<body>
<main>
<header><h1>{title}</h1><span class="system">{system}</span></header>
{body}
</main>
</body>
</html>
"#
    ))
}
