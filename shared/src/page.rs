//! Pages of which a section is made from the code, and held to it by a test.

/// The page with what stands between `<!-- of -->` and `<!-- end of of -->` replaced; `None` when
/// the page has no such place.
pub fn with_section(page: &str, of: &str, text: &str) -> Option<String> {
    let (begin, end) = (format!("<!-- {of} -->\n"), format!("<!-- end of {of} -->"));
    let (before, rest) = page.split_once(&begin)?;
    let (_, after) = rest.split_once(&end)?;
    Some(format!("{before}{begin}{text}{end}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_is_replaced_between_its_marks() {
        let page = "a\n<!-- x -->\nold\n<!-- end of x -->\nb\n";
        assert_eq!(
            with_section(page, "x", "new\n").unwrap(),
            "a\n<!-- x -->\nnew\n<!-- end of x -->\nb\n"
        );
        assert!(with_section(page, "y", "").is_none());
    }
}
