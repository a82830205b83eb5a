//! `/docs/errors`: every code of the table, at the anchor that `docs_url` points to.

use std::fmt::Write as _;

use crochet_shared::code::Code;

const HEAD: &str = r#"<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Crochet: errors</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="/docs/assets/page.css">
</head>
<body>
<h1>Errors</h1>
<p class="lead">Every refusal is <code>{"success":false,"error":{"code","message","recovery"}}</code>. Do what <code>recovery.next_action</code> says; keep what <code>preserve</code> names and drop what <code>discard</code> names for the retry. A particular case may say more exactly than this page. The operations are in the <a href="/docs">API reference</a>.</p>
"#;

/// The page.
pub(super) fn page() -> String {
    let mut page = HEAD.to_owned();
    let mut statuses: Vec<u16> = Code::ALL.iter().map(|code| code.status()).collect();
    statuses.sort_unstable();
    statuses.dedup();
    page.push_str("<ul class=\"contents\">");
    for status in &statuses {
        let _ = write!(page, "<li><a href=\"#status-{status}\">{status}</a></li>");
    }
    page.push_str("</ul>\n");
    for status in statuses {
        let phrase = http::StatusCode::from_u16(status)
            .ok()
            .and_then(|status| status.canonical_reason())
            .unwrap_or_default();
        let _ = writeln!(page, "<h2 id=\"status-{status}\">{status} {phrase}</h2>");
        for code in Code::ALL.iter().filter(|code| code.status() == status) {
            entry(&mut page, *code);
        }
    }
    page.push_str("</body>\n</html>\n");
    page
}

fn entry(page: &mut String, code: Code) {
    let entry = code.entry();
    let name = entry.name;
    let (class, verdict) = if entry.retryable {
        ("yes", "retryable")
    } else {
        ("no", "not retryable as it is")
    };
    // Writing into a string cannot fail.
    let _ = writeln!(
        page,
        "<section class=\"entry\" id=\"{name}\">\n<header><h3><a href=\"#{name}\"><code>{name}</code></a></h3><span class=\"status\">{}</span><span class=\"{class}\">{verdict}</span></header>\n<p>{}</p>\n<dl>\n<dt>next_action</dt><dd><code>{}</code></dd>\n<dt>What to do</dt><dd>{}</dd>",
        entry.status,
        escaped(entry.message),
        entry.next_action.as_str(),
        escaped(entry.summary),
    );
    for (term, names) in [("Preserve", entry.preserve), ("Discard", entry.discard)] {
        if !names.is_empty() {
            let names: Vec<String> = names
                .iter()
                .map(|name| format!("<code>{}</code>", escaped(name)))
                .collect();
            let _ = writeln!(page, "<dt>{term}</dt><dd>{}</dd>", names.join(", "));
        }
    }
    if let Some(seconds) = entry.retry_after_seconds {
        let _ = writeln!(
            page,
            "<dt>Usual wait</dt><dd>{seconds} s, in <code>Retry-After</code></dd>"
        );
    }
    page.push_str("</dl>\n</section>\n");
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_its_anchor_and_its_advice() {
        let page = page();
        for code in Code::ALL {
            let entry = code.entry();
            let anchor = format!("id=\"{}\"", entry.name);
            assert_eq!(page.matches(&anchor).count(), 1, "{}", entry.name);
            assert!(page.contains(&escaped(entry.message)), "{}", entry.name);
            assert!(page.contains(&escaped(entry.summary)), "{}", entry.name);
        }
        assert!(!page.contains("<script"));
    }
}
