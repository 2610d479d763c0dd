//! Texts as a page shows them.

/// A text for a page: `<name>` outside of code would be taken for HTML, and nobody would see it.
pub fn shown(text: &str) -> String {
    let code = |(index, part): (usize, &str)| {
        if index % 2 == 1 {
            part.to_owned()
        } else {
            part.replace('<', "&lt;")
        }
    };
    text.split('`').enumerate().map(code).collect::<Vec<_>>().join("`")
}
