//! Commands as a shell reads them, as far as the documentation uses it. Pure.

/// One command: its words, without quotes, comments and redirections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// Its line in the text, from 0.
    pub line: usize,
    /// The program and its arguments.
    pub words: Vec<String>,
}

/// What a text of commands holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Script {
    /// Its commands, those between `$(` and `)` among them.
    pub commands: Vec<Command>,
    /// Texts that are given to a command by `<<`, with the line at which they begin.
    pub documents: Vec<(usize, String)>,
}

/// Reads a text of commands.
///
/// # Errors
/// The line, from 0, whose quotes do not end.
pub fn read(text: &str) -> Result<Script, usize> {
    let mut script = Script::default();
    let mut lines = text.lines().enumerate();
    while let Some((number, line)) = lines.next() {
        let mut whole = line.to_owned();
        while let Some(begun) = whole.strip_suffix('\\') {
            let Some((_, next)) = lines.next() else { break };
            whole = format!("{begun} {}", next.trim_start());
        }
        if let Some((before, end)) = whole.clone().split_once("<<") {
            whole = before.to_owned();
            let end = end.trim().trim_matches(['\'', '"']).to_owned();
            let inside: Vec<_> = lines
                .by_ref()
                .map_while(|(_, line)| (line.trim() != end).then_some(line))
                .collect();
            script.documents.push((number + 1, inside.join("\n")));
        }
        command_line(&whole, number, &mut script.commands).ok_or(number)?;
    }
    Ok(script)
}

/// The commands of one line; nothing where a quote does not end.
fn command_line(text: &str, line: usize, commands: &mut Vec<Command>) -> Option<()> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut letters = text.chars().peekable();
    let mut begin = |words: &mut Vec<String>| {
        let words = std::mem::take(words);
        let first = words.iter().position(|word| !is_setting(word)).unwrap_or(words.len());
        let words = words.get(first..).unwrap_or_default().to_vec();
        if !words.is_empty() {
            commands.push(Command { line, words });
        }
    };
    let mut inner = Vec::new();
    while let Some(letter) = letters.next() {
        match letter {
            '\'' | '"' => {
                let into = word.get_or_insert_default();
                loop {
                    match letters.next()? {
                        end if end == letter => break,
                        '$' if letter == '"' && letters.peek() == Some(&'(') => {
                            into.push_str(&nested(&mut letters, &mut inner)?);
                        }
                        '\\' if letter == '"' => into.push(letters.next()?),
                        other => into.push(other),
                    }
                }
            }
            '$' if letters.peek() == Some(&'(') => {
                let inside = nested(&mut letters, &mut inner)?;
                word.get_or_insert_default().push_str(&inside);
            }
            '\\' => word.get_or_insert_default().push(letters.next()?),
            '#' if word.is_none() => break,
            ' ' | '\t' => words.extend(word.take()),
            '|' | ';' | '&' => {
                words.extend(word.take());
                begin(&mut words);
            }
            '>' | '<' => {
                words.extend(word.take());
                // Where it goes is no argument.
                while letters.next_if(|letter| *letter == ' ').is_some() {}
                while letters.next_if(|letter| !" |;&".contains(*letter)).is_some() {}
            }
            other => word.get_or_insert_default().push(other),
        }
    }
    words.extend(word);
    begin(&mut words);
    inner.iter().try_for_each(|text| command_line(text, line, commands))
}

/// The text of `$(...)`, which is kept for later; a word stands in its place.
fn nested(letters: &mut std::iter::Peekable<std::str::Chars<'_>>, inner: &mut Vec<String>) -> Option<String> {
    letters.next();
    let mut depth = 1;
    let mut text = String::new();
    loop {
        let letter = letters.next()?;
        depth += match letter {
            '(' => 1,
            ')' => -1,
            _ => 0,
        };
        if depth == 0 {
            break;
        }
        text.push(letter);
    }
    inner.push(text);
    Some("0".into())
}

/// `export`, or `NAME=value` before a command.
fn is_setting(word: &str) -> bool {
    let is_name = |name: &str| {
        !name.is_empty()
            && name
                .chars()
                .all(|letter| letter.is_ascii_uppercase() || letter == '_' || letter.is_ascii_digit())
    };
    word == "export" || word.split_once('=').is_some_and(|(name, _)| is_name(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<Vec<String>> {
        let script = read(text).expect("a script");
        script.commands.into_iter().map(|command| command.words).collect()
    }

    #[test]
    fn commands_are_read_as_a_shell_reads_them() {
        assert_eq!(words("make demo   # comment\n\n# comment\n"), [["make", "demo"]]);
        assert_eq!(words("a 'b c' \"d \\\" e\" f#g"), [["a", "b c", "d \" e", "f#g"]]);
        assert_eq!(
            words("a \\\n  b | c > d e; f"),
            [vec!["a", "b"], vec!["c", "e"], vec!["f"]]
        );
        let settings = "export A=$(make -s kubeconfig) B=\"$(ls | head -1)\" && kubectl x";
        let expected = [
            vec!["kubectl", "x"],
            vec!["make", "-s", "kubeconfig"],
            vec!["ls"],
            vec!["head", "-1"],
        ];
        assert_eq!(words(settings), expected);
    }

    #[test]
    fn what_is_given_to_a_command_is_no_command() {
        let script = read("a\nkubectl apply -f - <<'YAML'\nkind: Pod\n\"\nYAML\nb\n").expect("a script");
        assert_eq!(script.documents, [(2, "kind: Pod\n\"".to_owned())]);
        assert_eq!(script.commands.last().map(|command| command.line), Some(5));
        assert_eq!(read("a\nb 'c\n"), Err(1));
    }
}
