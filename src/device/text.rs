//! How the text of a kernel is put together from its `.wgsl` files. They are joined, and two rules make one skeleton serve
//! tiles of many sizes:
//!
//! 1. **Constants.** `const NAME: u32 = 8u;` holds unless the kernel's own constants name it: then theirs does.
//! 2. **Written-out loops.** A `for` loop below the line `// unrolled` is written out, turn by turn, with the number of the
//!    turn in place of its variable. Neither WGSL nor its compilers have a way to ask for that, and a tile stays in
//!    registers only if all its indices are constants. The bounds must be constants; such loops may be nested.
//!
//! A file is valid WGSL before and after, and means the same.

use std::collections::HashMap;

/// The joined files of a kernel under both rules.
pub fn assemble(source: &[&str], constants: &[(&str, f64)]) -> String {
    let joined = source.concat();
    let mut text = String::with_capacity(2 * joined.len());
    let mut known = HashMap::new();
    for line in joined.lines() {
        match declaration(line) {
            Some((name, kind, value)) => {
                let given = constants.iter().find(|(constant, _)| *constant == name).map(|(_, value)| *value);
                let value = given.map_or(value.to_string(), |value| format!("{value}u"));
                text.push_str(&format!("const {name}: {kind} = {value};\n"));
                known.insert(name.to_string(), value);
            }
            None => {
                text.push_str(line);
                text.push('\n');
            }
        }
    }
    if !text.contains(MARK) {
        return text;
    }
    let lines: Vec<&str> = text.lines().collect();
    let mut written = String::with_capacity(4 * text.len());
    write_out(&lines, &Constants(known), &mut written);
    written
}

/// True if the text declares this constant with `const`, so that [`assemble`] settles it.
pub fn declares(source: &[&str], name: &str) -> bool {
    source.iter().any(|text| text.lines().any(|line| declaration(line).is_some_and(|(constant, ..)| constant == name)))
}

/// The line before a loop that is written out.
const MARK: &str = "// unrolled";

/// Name, type and value of `const NAME: TYPE = VALUE;` at the beginning of a line.
fn declaration(line: &str) -> Option<(&str, &str, &str)> {
    let (name, rest) = line.strip_prefix("const ")?.split_once(':')?;
    let (kind, value) = rest.split_once('=')?;
    Some((name.trim(), kind.trim(), value.split_once(';')?.0.trim()))
}

fn write_out(lines: &[&str], constants: &Constants, to: &mut String) {
    let mut at = 0;
    while at < lines.len() {
        if lines[at].trim() != MARK {
            to.push_str(lines[at]);
            to.push('\n');
            at += 1;
            continue;
        }
        let (variable, turns) = constants.turns(lines[at + 1]);
        let end = at + 2 + end_of_block(&lines[at + 2..]);
        for turn in turns {
            let turn = format!("{turn}u");
            let body: Vec<String> = lines[at + 2..end].iter().map(|line| replace(line, variable, &turn)).collect();
            to.push_str("{\n");
            write_out(&body.iter().map(String::as_str).collect::<Vec<_>>(), constants, to);
            to.push_str("}\n");
        }
        at = end + 1;
    }
}

/// The line with the brace that closes a block whose opening brace stands before these lines.
fn end_of_block(lines: &[&str]) -> usize {
    let mut depth = 1;
    for (i, line) in lines.iter().enumerate() {
        for c in code_of(line).chars() {
            depth += match c {
                '{' => 1,
                '}' => -1,
                _ => 0,
            };
        }
        if depth <= 0 {
            return i;
        }
    }
    panic!("bug: a loop to be written out does not end")
}

fn code_of(line: &str) -> &str {
    line.split_once("//").map_or(line, |(code, _)| code)
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// The line with every occurrence of the word `from` as `to`.
fn replace(line: &str, from: &str, to: &str) -> String {
    let code = code_of(line);
    // A comment is kept for a mark of the next level, and not needed otherwise.
    if code.trim().is_empty() {
        return line.to_string();
    }
    let mut result = String::with_capacity(code.len());
    let mut rest = code;
    while let Some(start) = rest.find(from) {
        let (before, after) = (&rest[..start], &rest[start + from.len()..]);
        result.push_str(before);
        let whole = !result.ends_with(is_word) && !result.ends_with('.') && !after.starts_with(is_word);
        result.push_str(if whole { to } else { from });
        rest = after;
    }
    result + rest
}

/// Values of the constants, as they are written.
struct Constants(HashMap<String, String>);

impl Constants {
    /// The variable and the numbers of `for (var i = A; i < B; i++) {` or `…; i += C) {`.
    fn turns<'a>(&self, line: &'a str) -> (&'a str, std::iter::StepBy<std::ops::Range<u64>>) {
        let parts = || {
            let inside = line.trim().strip_prefix("for (var ")?.strip_suffix(") {")?;
            let [first, condition, step] = inside.split(';').collect::<Vec<_>>()[..] else { return None };
            let (variable, first) = first.split_once('=')?;
            let (_, end) = condition.split_once('<')?;
            let step = step.split_once("+=").map_or("1", |(_, step)| step);
            Some((variable.trim(), self.value(first), self.value(end), self.value(step)))
        };
        let (variable, first, end, step) =
            parts().unwrap_or_else(|| panic!("bug: no loop that can be written out: {line}"));
        (variable, (first..end).step_by(step as usize))
    }

    fn value(&self, text: &str) -> u64 {
        let tokens = tokens(text);
        let mut at = 0;
        let value = self.sum(&tokens, &mut at);
        assert!(at == tokens.len(), "bug: '{text}' is no constant that can be computed here");
        value
    }

    fn sum(&self, tokens: &[&str], at: &mut usize) -> u64 {
        let mut value = self.product(tokens, at);
        while let Some(&operator @ ("+" | "-")) = tokens.get(*at) {
            *at += 1;
            let right = self.product(tokens, at);
            value = if operator == "+" { value + right } else { value - right };
        }
        value
    }

    fn product(&self, tokens: &[&str], at: &mut usize) -> u64 {
        let mut value = self.factor(tokens, at);
        while let Some(&operator @ ("*" | "/" | "%")) = tokens.get(*at) {
            *at += 1;
            let right = self.factor(tokens, at);
            value = match operator {
                "*" => value * right,
                "/" => value / right,
                _ => value % right,
            };
        }
        value
    }

    fn factor(&self, tokens: &[&str], at: &mut usize) -> u64 {
        let token = tokens[*at];
        *at += 1;
        if token == "(" {
            let value = self.sum(tokens, at);
            *at += 1;
            return value;
        }
        if token.starts_with(|c: char| c.is_ascii_digit()) {
            return token.trim_end_matches('u').parse().expect("bug: a number in the bound of a loop");
        }
        let value =
            self.0.get(token).unwrap_or_else(|| panic!("bug: the bound of a loop names '{token}', no constant"));
        self.value(value)
    }
}

fn tokens(text: &str) -> Vec<&str> {
    let mut tokens = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let length = if is_word(first) { rest.find(|c| !is_word(c)).unwrap_or(rest.len()) } else { 1 };
        tokens.push(&rest[..length]);
        rest = rest[length..].trim_start();
    }
    tokens
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "\
const ROWS: u32 = 2u;
const HALF: u32 = (ROWS + 3u) / 2u; // rounded
fn f() {
    // unrolled
    for (var i = 0u; i < HALF; i++) {
        // unrolled
        for (var j = i; j < ROWS; j += 1u) {
            c[i] += a.i * ij[j]; // i stays in comments
        }
    }
}
";

    #[test]
    fn loops_are_written_out_with_the_kernels_own_constants() {
        let text = assemble(&[FILE], &[("ROWS", 3.0)]);
        let code: String = text.lines().map(code_of).flat_map(str::split_whitespace).collect::<Vec<_>>().join(" ");
        let turn = |i: usize, j: usize| format!("{{ c[{i}u] += a.i * ij[{j}u]; }} ");
        let expected = format!(
            "const ROWS: u32 = 3u; const HALF: u32 = (ROWS + 3u) / 2u; fn f() {{ {{ {}{}{}}} {{ {}{}}} {{ {}}} }}",
            turn(0, 0),
            turn(0, 1),
            turn(0, 2),
            turn(1, 1),
            turn(1, 2),
            turn(2, 2)
        );
        assert_eq!(code, expected);
    }

    #[test]
    fn words_that_contain_the_variable_stay() {
        assert_eq!(replace("add(d, x.d, dd) // d", "d", "2u"), "add(2u, x.d, dd) ");
    }

    #[test]
    fn a_file_without_marks_stays_as_it_is() {
        let text = "fn f() {\n    // a comment\n    for (var i = 0u; i < 3u; i++) {\n    }\n}\n";
        assert_eq!(assemble(&[text], &[]), text);
    }

    #[test]
    #[should_panic(expected = "no constant")]
    fn a_bound_that_is_no_constant_is_a_bug() {
        assemble(&["// unrolled\nfor (var i = 0u; i < n; i++) {\n}\n"], &[]);
    }
}
