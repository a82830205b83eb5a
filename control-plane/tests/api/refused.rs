//! What a field must refuse, by what it takes.

/// What a field takes, and so what it must refuse.
#[derive(Clone, Copy)]
pub(crate) enum Takes {
    /// Text of so many characters.
    Text(usize, usize),
    /// Such text in which every character shows.
    Name(usize, usize),
    /// Any text that is looked up, compared or decoded.
    Opaque,
    /// One of a set of names, an id, a time, a URL or an address.
    Form,
    /// True or false.
    Flag,
    /// A whole number.
    Number(i64, i64),
    /// A price.
    Price,
    /// A list of texts.
    Texts,
    /// Any JSON that is not too large.
    Document,
    /// A JSON Schema.
    Schema,
    /// An object with fields of its own.
    Object,
}

/// What is no text.
const NOT_TEXT: [&str; 8] = [
    "true",
    "0",
    "-1.5",
    "1e308",
    "[]",
    "{}",
    "[\"a\"]",
    "{\"a\":1}",
];
/// Text that is none in Unicode.
const BROKEN_TEXT: [&str; 2] = [r#""\ud800""#, r#""a\udc00b""#];
/// Text with a control character.
const CONTROL: [&str; 6] = [
    r#""\u0000""#,
    r#""a\u0000b""#,
    r#""a\u001fb""#,
    r#""a\nb""#,
    r#""a\u007fb""#,
    r#""a\u0085b""#,
];
/// Text with a character that does not show.
const HIDDEN: [&str; 8] = [
    r#""Ec\u202eho""#,
    r#""\u2066Echo\u2069""#,
    r#""Ec\u200bho""#,
    r#""\u3164""#,
    r#""Ec\udb40\udc41ho""#,
    r#""Ec\u200dho""#,
    r#""Echo\ufeff""#,
    r#""\u200f""#,
];

/// JSON texts that a field must refuse.
pub(crate) fn refused(takes: Takes) -> Vec<String> {
    let own = |list: &[&str]| {
        list.iter()
            .map(|text| (*text).to_owned())
            .collect::<Vec<_>>()
    };
    let long = |chars: usize| format!("\"{}\"", "é".repeat(chars));
    match takes {
        Takes::Text(min, max) => {
            let mut all = [own(&NOT_TEXT), own(&BROKEN_TEXT), own(&CONTROL)].concat();
            all.extend([long(max + 1), long(100_000)]);
            if min > 0 {
                all.extend(own(&["\"\"", "\"   \""]));
            }
            all
        }
        Takes::Name(min, max) => {
            let mut all = refused(Takes::Text(min, max));
            all.extend(own(&HIDDEN));
            all
        }
        Takes::Opaque => [own(&NOT_TEXT), own(&BROKEN_TEXT)].concat(),
        Takes::Form => {
            let mut all = [own(&NOT_TEXT), own(&BROKEN_TEXT), own(&CONTROL)].concat();
            all.extend(own(&[
                "\"\"",
                "\"nonsense\"",
                "\"' or 1=1 --\"",
                "\"../..\"",
            ]));
            all.push(long(5_000));
            all
        }
        Takes::Flag => own(&["0", "1", "\"true\"", "[]", "{}"]),
        Takes::Number(min, max) => {
            let mut all = own(&[
                "true",
                "\"1\"",
                "1500.5",
                "1e308",
                "1e3",
                "-0.5",
                "[]",
                "{}",
                "99999999999999999999",
            ]);
            all.extend([(min - 1).to_string(), (max + 1).to_string()]);
            all
        }
        Takes::Price => own(&[
            "true",
            "[]",
            "{}",
            "0.30000000000000004",
            "1e308",
            "-1",
            "1e-7",
            "10000.000001",
            "\"\"",
            "\"x\"",
            r#""\ud800""#,
            r#""1\u0000""#,
            "\"1e3\"",
            "\"0x1\"",
            "\"-1\"",
            "\"１\"",
        ]),
        Takes::Texts => {
            let mut all = own(&[
                "true",
                "\"a\"",
                "{}",
                "[1]",
                "[null]",
                "[[\"a\"]]",
                "[\"\"]",
                r#"["\u0000"]"#,
                r#"["\ud800"]"#,
                r#"["a\u202eb"]"#,
                r#"["a\u200bb"]"#,
            ]);
            all.push(format!("[{}]", ["\"a\""; 11].join(",")));
            all.push(format!("[\"{}\"]", "é".repeat(33)));
            all
        }
        Takes::Document => documents(),
        Takes::Schema => [own(&["1", "\"a\"", "[]"]), documents()].concat(),
        Takes::Object => own(&["true", "1", "\"a\"", "[]", "[{}]"]),
    }
}

fn documents() -> Vec<String> {
    vec![
        r#"{"a":"\u0000"}"#.to_owned(),
        r#"{"\u0000":1}"#.to_owned(),
        r#"{"a":["\ud800"]}"#.to_owned(),
        r#"{"a":1e999}"#.to_owned(),
        format!("{{\"a\":\"{}\"}}", "x".repeat(32 * 1024)),
    ]
}
