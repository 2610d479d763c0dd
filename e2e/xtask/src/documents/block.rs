//! The blocks and the code words of a Markdown page. Pure: text in, parts with their lines out.
//!
//! A block's fence names its language and, after it, what becomes of it: GitHub and mdBook show the first word only.

/// What becomes of a block of commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark<'a> {
    /// `run`: a test of the end-to-end tests takes it from the page and runs it.
    Run,
    /// `by-hand`: no test runs it.
    ByHand,
    /// `shown`: what was seen; its commands begin with `$`.
    Shown,
    /// `tested-by=<file>`: the test in that file does the same, and names the page.
    TestedBy(&'a str),
}

/// A fenced block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// The line of its fence.
    pub line: usize,
    /// Its language; empty where the fence names none.
    pub language: String,
    /// The words after it.
    pub words: Vec<String>,
    /// What is inside, without the fence's indentation.
    pub text: String,
}

impl Block {
    /// Whether it holds commands.
    #[must_use]
    pub fn is_commands(&self) -> bool {
        ["sh", "bash", "console"].contains(&self.language.as_str())
    }

    /// What becomes of it, if the fence says so.
    #[must_use]
    pub fn mark(&self) -> Option<Mark<'_>> {
        self.words.iter().find_map(|word| match word.as_str() {
            "run" => Some(Mark::Run),
            "by-hand" => Some(Mark::ByHand),
            "shown" => Some(Mark::Shown),
            word => word.strip_prefix("tested-by=").map(Mark::TestedBy),
        })
    }

    /// The value of `name=value` on the fence.
    #[must_use]
    pub fn value(&self, name: &str) -> Option<&str> {
        let values = self.words.iter().filter_map(|word| word.split_once('='));
        values
            .into_iter()
            .find_map(|(key, value)| (key == name).then_some(value))
    }
}

/// Every block of a page.
#[must_use]
pub fn blocks(page: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut open: Option<(Block, &str, usize)> = None;
    for (index, line) in page.lines().enumerate() {
        let inner = line.trim_start();
        let fence = ["```", "~~~"].into_iter().find(|fence| inner.starts_with(fence));
        match (&mut open, fence) {
            (None, Some(fence)) => {
                let mut words = inner
                    .trim_start_matches(['`', '~'])
                    .split([' ', ','])
                    .map(str::to_owned);
                let block = Block {
                    line: index + 1,
                    language: words.next().unwrap_or_default(),
                    words: words.filter(|word| !word.is_empty()).collect(),
                    text: String::new(),
                };
                open = Some((block, fence, line.len() - inner.len()));
            }
            (Some((_, mark, _)), Some(fence)) if *mark == fence => blocks.extend(open.take().map(|(block, ..)| block)),
            (Some((block, _, indentation)), _) => {
                let blanks = line.len() - inner.len();
                block
                    .text
                    .push_str(line.get(blanks.min(*indentation)..).unwrap_or_default());
                block.text.push('\n');
            }
            (None, None) => {}
        }
    }
    blocks
}

/// What stands between backquotes in the prose of a page, with its line.
#[must_use]
pub fn spans(page: &str) -> Vec<(usize, &str)> {
    crate::links::prose(page)
        // A row of a table has its bars escaped, inside of code too.
        .flat_map(|(line, text)| text.split('`').skip(1).step_by(2).map(move |span| (line, span)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_have_language_words_and_text_without_indentation() {
        let page = "a `b c` and `d`\n```sh run\necho `no span`\n```\n1. x\n   ```yaml of=Restore.spec\n   a:\n     b: 1\n   ```\n```\nx\n```\n`e`\n";
        let [first, second, third] = &blocks(page)[..] else {
            panic!("{:?}", blocks(page))
        };
        assert_eq!(
            (first.line, first.mark(), first.is_commands()),
            (2, Some(Mark::Run), true)
        );
        assert_eq!(
            (second.line, second.value("of"), second.text.as_str()),
            (6, Some("Restore.spec"), "a:\n  b: 1\n")
        );
        assert_eq!(
            (third.language.as_str(), third.mark(), third.text.as_str()),
            ("", None, "x\n")
        );
        assert_eq!(spans(page), [(1, "b c"), (1, "d"), (13, "e")]);
        let marks = |words| blocks(&format!("```sh {words}\n```\n"))[0].clone();
        assert_eq!(marks("by-hand").mark(), Some(Mark::ByHand));
        assert_eq!(marks("tested-by=a/b.rs").mark(), Some(Mark::TestedBy("a/b.rs")));
        assert_eq!(marks("byhand").mark(), None);
    }
}
