//! Every hint stands word for word in a test: this one reads the source, and fails for a hint that no test shows.
//!
//! Taken for a hint is what stands in a function `hint` or `…_words`, in an argument of `with_hint` or `usage`, behind `hint:` or
//! `let hint`, or in a constant that `with_hint` is given. A test shows it when one line of one of its texts holds all of it but for
//! what is filled in.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

/// Shorter texts are names and the like.
const SHORTEST: usize = 12;
/// What comes behind these words, up to the end of what they begin.
const BEGINNINGS: [(&str, char); 9] = [
    ("fn hint(", '}'),
    ("_words(", '}'),
    (".with_hint(", ')'),
    ("usage(", ')'),
    ("hint:", ','),
    ("let hint", ';'),
    ("let login", ';'),
    ("const ASK", ';'),
    ("const CLIENT_CERTIFICATE", ';'),
];
const MORE: [(&str, char); 2] = [("const TOO_LONG", ';'), ("const PROXY_LOGIN", ';')];

#[test]
fn every_hint_of_the_source_is_shown_in_a_test() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut hints = BTreeMap::new();
    let mut shown = Vec::new();
    for file in files(&root) {
        let name = file.strip_prefix(&root).unwrap().to_string_lossy().into_owned();
        let text = fs::read_to_string(&file).unwrap();
        let (source, tests) = match text.find("#[cfg(test)]\nmod tests {") {
            _ if name.contains("tests/") || name.ends_with("tests.rs") => ("", text.as_str()),
            Some(at) => text.split_at(at),
            None => (text.as_str(), ""),
        };
        shown.extend(
            Pieces::of(tests).texts.into_iter().flat_map(|(_, text)| text.lines().map(str::to_owned).collect::<Vec<_>>()),
        );
        // In a picture a hint is what the pointer shows.
        if !name.starts_with("pkg/testkit/") && !name.contains("/record/waterfall/") {
            hints.extend(hints_of(source).into_iter().map(|hint| (hint, name.clone())));
        }
    }
    assert!(hints.len() > 100, "only {} hints were found", hints.len());
    let unseen: Vec<_> = hints.iter().filter(|(hint, _)| !shown.iter().any(|line| holds(line, hint))).collect();
    assert!(unseen.is_empty(), "no test shows {unseen:#?}");
}

/// The workspace's Rust, sources and tests.
fn files(root: &Path) -> Vec<PathBuf> {
    let (mut found, mut folders) = (Vec::new(), vec![root.join("pkg"), root.join("cmd")]);
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    found
}

fn hints_of(source: &str) -> Vec<String> {
    let Pieces { code, texts } = Pieces::of(source);
    let begun = |word: &'static str, end: char| code.match_indices(word).map(move |(at, _)| (at, end)).collect::<Vec<_>>();
    let spans = BEGINNINGS.into_iter().chain(MORE).flat_map(|(word, end)| begun(word, end));
    let spans: Vec<(usize, usize)> = spans.map(|(at, end)| (at, at + length(&code[at..], end))).collect();
    let within = |at: usize| spans.iter().any(|(from, to)| (*from..*to).contains(&at));
    texts.into_iter().filter(|(at, text)| text.len() >= SHORTEST && within(*at)).map(|(_, text)| text).collect()
}

/// Up to the first `end` that closes what was opened, or stands outside of all that was.
fn length(code: &str, end: char) -> usize {
    let mut depth = 0_i32;
    for (at, character) in code.char_indices() {
        match character {
            '(' | '{' | '[' => depth += 1,
            ')' | '}' | ']' => depth -= 1,
            _ => {}
        }
        let closes = matches!(end, '}' | ')') && character == end && depth == 0;
        if closes || (depth <= 0 && character == end && !matches!(end, '}' | ')')) || depth < 0 {
            return at;
        }
    }
    code.len()
}

/// Rust in two: its code with texts and comments blanked out, and the texts with their places.
struct Pieces {
    code: String,
    texts: Vec<(usize, String)>,
}

impl Pieces {
    fn of(source: &str) -> Self {
        let (mut code, mut texts, mut at) = (String::with_capacity(source.len()), Vec::new(), 0);
        while let Some(first) = source[at..].chars().next() {
            let rest = &source[at..];
            let skipped = if rest.starts_with("//") {
                rest.find('\n').unwrap_or(rest.len())
            } else if rest.starts_with("r\"") || rest.starts_with("r#") {
                let hashes = rest[1..].bytes().take_while(|byte| *byte == b'#').count();
                let (open, close) = (hashes + 2, format!("\"{}", "#".repeat(hashes)));
                match rest.get(open..).filter(|_| rest[hashes + 1..].starts_with('"')).and_then(|body| body.find(&close)) {
                    Some(end) => {
                        texts.push((at, rest[open..open + end].to_owned()));
                        open + end + close.len()
                    }
                    None => 0,
                }
            } else if first == '"' {
                let mut escaped = false;
                let end = rest[1..].char_indices().find(|(_, character)| {
                    let ends = *character == '"' && !escaped;
                    escaped = *character == '\\' && !escaped;
                    ends
                });
                let end = end.map_or(rest.len(), |(end, _)| end + 1);
                texts.push((at, unescaped(&rest[1..end])));
                end + 1
            } else if first == '\'' {
                // A character, not a lifetime.
                let body =
                    rest[1..].chars().next().map_or(0, |character| if character == '\\' { 2 } else { character.len_utf8() });
                if rest[1 + body..].starts_with('\'') { body + 2 } else { 0 }
            } else {
                0
            };
            if skipped == 0 {
                code.push(first);
                at += first.len_utf8();
            } else {
                let skipped = skipped.min(rest.len());
                code.push_str(&" ".repeat(skipped));
                at += skipped;
            }
        }
        Self { code, texts }
    }
}

/// As the compiler reads it, as far as hints go.
fn unescaped(text: &str) -> String {
    let mut plain = String::new();
    let mut rest = text.chars().peekable();
    while let Some(character) = rest.next() {
        match (character, rest.peek()) {
            ('\\', Some('\n')) => while rest.next_if(|character| character.is_whitespace()).is_some() {},
            ('\\', Some('n')) => {
                rest.next();
                plain.push('\n');
            }
            ('\\', Some(_)) => plain.extend(rest.next()),
            _ => plain.push(character),
        }
    }
    plain
}

/// Does the line hold all parts of the hint between its `{}`, in order?
fn holds(line: &str, hint: &str) -> bool {
    let mut rest = line;
    hint.split('{').enumerate().all(|(index, part)| {
        let part = if index == 0 { part } else { part.split_once('}').map_or(part, |(_, behind)| behind) };
        match rest.find(part) {
            Some(at) => {
                rest = &rest[at + part.len()..];
                true
            }
            None => false,
        }
    })
}

#[test]
fn a_hint_that_no_test_shows_would_be_found() {
    let source = r#"fn x() { fault.with_hint(format!("call {who} at once: {}", 1)) } // "no hint at all"
        hint: Some("look at the other end"), why: "not a hint at all", let hint = "go on, \
        and come back"; match '"' { _ => usage("what happened", "what to do then") }"#;
    let hints = ["call {who} at once: {}", "look at the other end", "go on, and come back", "what happened", "what to do then"];
    assert_eq!(hints_of(source), hints);
    assert!(holds("hint: call ann at once: 7", hints[0]) && !holds("hint: call ann", hints[0]));
}
