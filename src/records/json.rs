//! JSON as the files of a run have it: indented, with short lists on one line.

/// Indented JSON with each list that holds no list and no object on one line.
pub(crate) fn flat_lists(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    let mut rest = json;
    while let Some(at) = rest.find(['"', '[']) {
        let (before, from) = rest.split_at(at);
        out += before;
        let (token, after) = if from.starts_with('"') { from.split_at(string_end(from)) } else { from.split_at(1) };
        out += token;
        rest = after;
        if token == "["
            && let Some((end, list)) = plain_list(after)
        {
            out += &list;
            rest = &after[end..];
        }
    }
    out + rest
}

/// Where the string that `json` starts with ends.
fn string_end(json: &str) -> usize {
    let mut escaped = false;
    let end = json.char_indices().skip(1).find(|&(_, c)| {
        let ends = c == '"' && !escaped;
        escaped = c == '\\' && !escaped;
        ends
    });
    end.map_or(json.len(), |(at, _)| at + 1)
}

/// If the list whose content `json` starts with is plain: where it ends, and its content on one line.
fn plain_list(json: &str) -> Option<(usize, String)> {
    let mut line = String::new();
    let mut at = 0;
    loop {
        let rest = &json[at..];
        match rest.chars().next()? {
            ']' => return Some((at, line)),
            '[' | '{' => return None,
            '"' => {
                let end = string_end(rest);
                line += &rest[..end];
                at += end;
                continue;
            }
            ',' => line += ", ",
            c if c.is_whitespace() => {}
            c => line.push(c),
        }
        at += rest.chars().next()?.len_utf8();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_lists_are_written_on_one_line() {
        let value =
            serde_json::json!({ "a": [1, 2.5, null], "b": [[1, 2], []], "c": [{ "d": ["x, [\"y\\", "é"] }], "e[": 1 });
        let flat = flat_lists(&serde_json::to_string_pretty(&value).unwrap());
        assert_eq!(serde_json::from_str::<serde_json::Value>(&flat).unwrap(), value);
        for line in [r#"  "a": [1, 2.5, null],"#, "    [1, 2],", "    []", r#"      "d": ["x, [\"y\\", "é"]"#] {
            assert!(flat.lines().any(|l| l == line), "no {line:?} in {flat}");
        }
    }
}
