//! Pieces of HTML. Whatever comes from a run passes [`escape`].

use std::fmt::Write;

/// Text as HTML text or as the value of a quoted attribute.
pub(super) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out += "&amp;",
            '<' => out += "&lt;",
            '>' => out += "&gt;",
            '"' => out += "&quot;",
            '\'' => out += "&#39;",
            // Not allowed in HTML, and no use in a name.
            c if c.is_control() && !c.is_whitespace() => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

/// A part of the page with a heading that the table of contents links to.
pub(super) struct Section {
    pub id: &'static str,
    pub title: &'static str,
    pub body: String,
}

/// A whole page: what stands above the sections, and these. It needs nothing from outside.
pub(super) fn page(title: &str, top: &str, sections: &[Section]) -> String {
    let mut nav = String::new();
    let mut body = String::new();
    for Section { id, title, body: content } in sections {
        let _ = write!(nav, "<a href=\"#{id}\">{title}</a>");
        let _ = writeln!(body, "<section id=\"{id}\">\n<h2>{title}</h2>\n{content}</section>");
    }
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" \
         content=\"width=device-width, initial-scale=1\">\n<meta name=\"color-scheme\" content=\"light dark\">\n\
         <title>{}</title>\n<link rel=\"icon\" href=\"data:,\">\n<style>\n{}</style>\n</head>\n<body>\n<main>\n{top}\
         <nav aria-label=\"Contents\">{nav}</nav>\n{body}</main>\n<footer>Written by engram {}. This page needs no \
         network, no script and no other file.</footer>\n</body>\n</html>\n",
        escape(title),
        include_str!("style.css"),
        env!("CARGO_PKG_VERSION"),
    )
}

/// The figures at the top: name and value.
pub(super) fn key_figures<S: AsRef<str>>(figures: &[(S, String)]) -> String {
    let items: String = figures
        .iter()
        .map(|(name, value)| format!("<div><dt>{}</dt><dd>{}</dd></div>\n", name.as_ref(), escape(value)))
        .collect();
    format!("<dl class=\"figures\">\n{items}</dl>\n")
}

/// Names and values below one another.
pub(super) fn facts(facts: &[(&str, String)]) -> String {
    let items: String =
        facts.iter().map(|(name, value)| format!("<dt>{name}</dt><dd>{}</dd>\n", escape(value))).collect();
    format!("<dl class=\"facts\">\n{items}</dl>\n")
}

/// A table of plain text. The first column names the rows; the first `n_texts` columns hold words, the others numbers.
pub(super) fn table(caption: &str, n_texts: usize, head: &[String], rows: &[Vec<String>]) -> String {
    let class = |column: usize| if column < n_texts { " class=\"text\"" } else { "" };
    let cells = |cells: &[String], tag: &str, end: &str| -> String {
        let cells = cells.iter().enumerate();
        cells.map(|(i, cell)| format!("<{tag}{}>{}</{end}>", class(i), escape(cell))).collect()
    };
    let head = cells(head, "th scope=\"col\"", "th");
    let mut body = String::new();
    for row in rows {
        let row = cells(row, "td", "td");
        // The first cell is the row's name.
        let _ =
            writeln!(body, "<tr>{}</tr>", row.replacen("<td", "<th scope=\"row\"", 1).replacen("</td>", "</th>", 1));
    }
    format!(
        "<div class=\"scroll\"><table>\n<caption><span>{caption}</span></caption>\n<thead><tr>{head}</tr></thead>\n\
         <tbody>\n{body}</tbody>\n</table></div>\n"
    )
}

/// Command lines, broken before a flag only.
pub(super) fn commands(lines: &[String]) -> String {
    let flags = |line: &String| -> String {
        let parts: Vec<String> = line.split(" --").map(escape).collect();
        parts.join("</span> <span>--")
    };
    let lines: Vec<String> = lines.iter().map(|line| format!("<span>{}</span>", flags(line))).collect();
    format!("<pre><code>{}</code></pre>\n", lines.join("\n"))
}

/// Something folded away until it is wanted.
pub(super) fn details(summary: &str, body: &str) -> String {
    format!("<details><summary>{}</summary>\n{body}</details>\n", escape(summary))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_escapes() {
        assert_eq!(escape("a<b & \"c\"'\u{1b}"), "a&lt;b &amp; &quot;c&quot;&#39;\u{fffd}");
        let table = table("c", 1, &["<h>".into()], &[vec!["<r>".into(), "<v>".into()]]);
        assert!(!table.contains("<h>") && !table.contains("<r>") && !table.contains("<v>"), "{table}");
    }
}
