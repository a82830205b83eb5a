//! SQL taken apart: just as far as the migrations of this repository need it.

/// The statements of a text, without comments, in lower case, with single spaces.
pub(super) fn statements(sql: &str) -> Vec<String> {
    let mut found = vec![String::new()];
    for part in parts(sql) {
        match part {
            Part::Comment => {}
            Part::End => found.push(String::new()),
            Part::Text(text) => found.last_mut().unwrap().push_str(&text.to_lowercase()),
        }
    }
    found
        .iter()
        .map(|text| text.split_whitespace().collect::<Vec<_>>().join(" "))
        .filter(|text| !text.is_empty())
        .collect()
}

enum Part<'a> {
    Comment,
    Text(&'a str),
    End,
}

/// Text in quotes, or between dollars, is one part whatever it holds.
fn parts(sql: &str) -> impl Iterator<Item = Part<'_>> {
    let mut rest = sql;
    std::iter::from_fn(move || {
        let first = rest.chars().next()?;
        let (length, of) = if rest.starts_with("--") {
            (rest.find('\n').unwrap_or(rest.len()), Kind::Comment)
        } else if first == '\'' {
            (closed(rest, "'"), Kind::Text)
        } else if let Some(mark) = dollar_mark(rest) {
            (closed(rest, mark), Kind::Text)
        } else if first == ';' {
            (1, Kind::End)
        } else {
            (first.len_utf8(), Kind::Text)
        };
        let (part, after) = rest.split_at(length);
        rest = after;
        Some(match of {
            Kind::Comment => Part::Comment,
            Kind::Text => Part::Text(part),
            Kind::End => Part::End,
        })
    })
}

enum Kind {
    Comment,
    Text,
    End,
}

/// How long what begins with `mark` is, the mark that ends it included.
fn closed(text: &str, mark: &str) -> usize {
    let inner = &text[mark.len()..];
    let end = inner.find(mark).expect("what is opened is closed");
    end + 2 * mark.len()
}

/// `$$` or `$name$` at the beginning.
fn dollar_mark(text: &str) -> Option<&str> {
    let name = text.strip_prefix('$')?;
    let end = name.find('$')?;
    let is_name = name[..end].bytes().all(|byte| byte.is_ascii_lowercase());
    is_name.then(|| &text[..end + 2])
}

/// The actions of an `alter table`: what stands between the commas outside of brackets.
pub(super) fn actions(statement: &str) -> Vec<String> {
    let rest = statement.strip_prefix("alter table ").unwrap_or(statement);
    let rest = rest.split_once(' ').map_or("", |(_, actions)| actions);
    let (mut depth, mut found) = (0_i32, vec![String::new()]);
    for letter in rest.chars() {
        match letter {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        if letter == ',' && depth == 0 {
            found.push(String::new());
        } else {
            found.last_mut().unwrap().push(letter);
        }
    }
    found
        .iter()
        .map(|action| action.trim().to_owned())
        .collect()
}
