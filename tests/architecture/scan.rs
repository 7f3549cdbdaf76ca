//! Reads Rust text just far enough to know which paths it names.

/// A path as the code means it: `crate::...` for this crate, else a crate's name first.
#[derive(Debug, PartialEq)]
pub struct PathUse {
    pub line: usize,
    /// Never empty; a glob's last segment is `*`.
    pub segments: Vec<String>,
}

/// `src/cli/check.rs` is the module `cli::check`; `lib.rs` and `main.rs` are the root.
pub fn module_of(path: &str) -> Vec<String> {
    let path = path.trim_start_matches("src/").trim_end_matches(".rs").trim_end_matches("/mod");
    if ["lib", "main"].contains(&path) {
        return Vec::new();
    }
    path.split('/').map(str::to_owned).collect()
}

/// The code with comments, literals' contents and test modules made blank; lines stay.
pub fn blank(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        let end = skipped_until(&chars, at);
        if end == at {
            out.push(chars[at]);
            at += 1;
        } else {
            // Spaces, so that the words on both sides stay apart.
            out.extend(chars[at..end].iter().map(|c| if *c == '\n' { '\n' } else { ' ' }));
            at = end;
        }
    }
    blank_test_modules(out)
}

/// The end of the comment or literal that starts at `at`, or `at` when none does.
fn skipped_until(chars: &[char], at: usize) -> usize {
    let rest = &chars[at..];
    let word_before = at > 0 && (chars[at - 1].is_alphanumeric() || chars[at - 1] == '_');
    match rest {
        ['/', '/', ..] => at + rest.iter().position(|c| *c == '\n').unwrap_or(rest.len()),
        ['/', '*', ..] => block_comment(chars, at),
        ['"', ..] => string(chars, at),
        ['r', '"' | '#', ..] if !word_before || chars[at - 1] == 'b' => raw_string(chars, at),
        // A character literal; otherwise the quote begins a lifetime.
        ['\'', '\\', _, tail @ ..] => at + 4 + tail.iter().position(|c| *c == '\'').unwrap_or(0),
        ['\'', _, '\'', ..] => at + 3,
        _ => at,
    }
}

fn block_comment(chars: &[char], at: usize) -> usize {
    let (mut depth, mut i) = (0_u32, at);
    while i + 1 < chars.len() {
        match (chars[i], chars[i + 1]) {
            ('/', '*') => (depth, i) = (depth + 1, i + 2),
            ('*', '/') => (depth, i) = (depth - 1, i + 2),
            _ => i += 1,
        }
        if depth == 0 {
            return i;
        }
    }
    chars.len()
}

fn string(chars: &[char], at: usize) -> usize {
    let mut i = at + 1;
    while i < chars.len() && chars[i] != '"' {
        i += if chars[i] == '\\' { 2 } else { 1 };
    }
    (i + 1).min(chars.len())
}

fn raw_string(chars: &[char], at: usize) -> usize {
    let hashes = chars[at + 1..].iter().take_while(|c| **c == '#').count();
    let open = at + 1 + hashes;
    if chars.get(open) != Some(&'"') {
        return at; // a raw identifier
    }
    let mut close = vec!['"'];
    close.extend(std::iter::repeat_n('#', hashes));
    let mut i = open + 1;
    while i < chars.len() && !chars[i..].starts_with(&close) {
        i += 1;
    }
    (i + close.len()).min(chars.len())
}

/// Tests may use what the code may not.
fn blank_test_modules(mut code: String) -> String {
    const MARK: &str = "#[cfg(test)]";
    let mut from = 0;
    while let Some(found) = code[from..].find(MARK) {
        let start = from + found;
        let body = code[start + MARK.len()..].trim_start();
        from = start + MARK.len();
        if !body.starts_with("mod ") && !body.starts_with("pub mod ") {
            continue;
        }
        let (mut depth, mut end) = (0_u32, code.len());
        for (offset, c) in code[start..].char_indices() {
            match c {
                '{' => depth += 1,
                '}' if depth == 1 => end = start + offset + 1,
                '}' => depth -= 1,
                ';' if depth == 0 => end = start + offset + 1,
                _ => continue,
            }
            if end != code.len() {
                break;
            }
        }
        let hole: String = code[start..end].chars().map(|c| if c == '\n' { '\n' } else { ' ' }).collect();
        code.replace_range(start..end, &hole);
    }
    code
}

#[derive(Debug, Clone, PartialEq)]
enum Token {
    Word(String),
    Colons,
    Mark(char),
}

fn tokens(code: &str) -> Vec<(usize, Token)> {
    let mut found = Vec::new();
    let mut chars = code.chars().peekable();
    let mut line = 1;
    while let Some(c) = chars.next() {
        match c {
            '\n' => line += 1,
            ':' if chars.peek() == Some(&':') => {
                chars.next();
                found.push((line, Token::Colons));
            }
            c if c.is_alphanumeric() || c == '_' => {
                let mut word = String::from(c);
                while let Some(next) = chars.next_if(|c| c.is_alphanumeric() || *c == '_') {
                    word.push(next);
                }
                found.push((line, Token::Word(word)));
            }
            c if c.is_whitespace() => {}
            c => found.push((line, Token::Mark(c))),
        }
    }
    found
}

/// Every path that the (blanked) code of `module` names, renames resolved. Names
/// that are only types, functions or this file's own modules are left out.
pub fn paths(code: &str, module: &[String]) -> Vec<PathUse> {
    let tokens = tokens(code);
    let mut reader = Reader { tokens: &tokens, at: 0, module: module.to_vec(), depth: 0, inline: vec![] };
    reader.read()
}

struct Reader<'a> {
    tokens: &'a [(usize, Token)],
    at: usize,
    module: Vec<String>,
    depth: usize,
    /// Brace depths at which inline modules opened.
    inline: Vec<usize>,
}

/// A path as written, with the name it is known by afterwards when imported.
struct Written {
    line: usize,
    segments: Vec<String>,
    imported_as: Option<String>,
    module: Vec<String>,
    /// Began with `::`, so the first segment is a crate for certain.
    global: bool,
}

impl Reader<'_> {
    fn token(&self, ahead: usize) -> Option<&Token> {
        self.tokens.get(self.at + ahead).map(|(_, token)| token)
    }

    fn word(&self, ahead: usize) -> Option<&str> {
        match self.token(ahead) {
            Some(Token::Word(word)) => Some(word),
            _ => None,
        }
    }

    fn line(&self) -> usize {
        self.tokens.get(self.at).map_or(0, |(line, _)| *line)
    }

    fn read(&mut self) -> Vec<PathUse> {
        let mut written = Vec::new();
        let mut own_modules = Vec::new();
        while let Some(token) = self.token(0).cloned() {
            match token {
                Token::Mark('{') => self.depth += 1,
                Token::Mark('}') => {
                    if self.inline.last() == Some(&self.depth) {
                        self.inline.pop();
                        self.module.pop();
                    }
                    self.depth = self.depth.saturating_sub(1);
                }
                Token::Word(word) if word == "mod" && self.word(1).is_some() => {
                    let name = self.word(1).unwrap_or_default().to_owned();
                    if self.token(2) == Some(&Token::Mark('{')) {
                        self.module.push(name.clone());
                        self.inline.push(self.depth + 1);
                    }
                    own_modules.push(name);
                    self.at += 1;
                }
                Token::Word(word) if word == "use" => {
                    self.at += 1;
                    let global = self.token(0) == Some(&Token::Colons);
                    self.at += usize::from(global);
                    self.tree(&[], global, &mut written);
                    continue;
                }
                Token::Word(_) if self.token(1) == Some(&Token::Colons) => {
                    self.inline_path(&mut written);
                    continue;
                }
                _ => {}
            }
            self.at += 1;
        }
        resolve(&written, &own_modules)
    }

    /// `a::b::c` in an expression, a type or an attribute.
    fn inline_path(&mut self, written: &mut Vec<Written>) {
        let line = self.line();
        // `<T as X>::f::g` and `Vec::<T>::new`: the part after is nobody's crate.
        let after_colons = self.at > 0 && self.tokens[self.at - 1].1 == Token::Colons;
        let before = self.at.checked_sub(2).map(|i| &self.tokens[i].1);
        let global = after_colons && !matches!(before, Some(Token::Mark('>') | Token::Word(_)));
        let mut segments = vec![self.word(0).unwrap_or_default().to_owned()];
        self.at += 1;
        while self.token(0) == Some(&Token::Colons) {
            let Some(word) = self.word(1) else { break };
            segments.push(word.to_owned());
            self.at += 2;
        }
        if !after_colons || global {
            written.push(Written { line, segments, imported_as: None, module: self.module.clone(), global });
        }
    }

    /// One branch of a `use` tree, up to its `,`, `}` or `;`.
    fn tree(&mut self, prefix: &[String], global: bool, written: &mut Vec<Written>) {
        let line = self.line();
        let mut segments = prefix.to_vec();
        let mut renamed = None;
        let mut branched = false;
        while let Some(token) = self.token(0).cloned() {
            match token {
                Token::Mark(';' | ',' | '}') => break,
                Token::Mark('{') => {
                    branched = true;
                    self.at += 1;
                    while !matches!(self.token(0), None | Some(Token::Mark('}'))) {
                        self.tree(&segments, global, written);
                        self.at += usize::from(self.token(0) == Some(&Token::Mark(',')));
                    }
                }
                Token::Mark('*') => segments.push("*".to_owned()),
                Token::Word(word) if word == "as" => {
                    renamed = self.word(1).map(str::to_owned);
                    self.at += 1;
                }
                // `a::{self}` is `a`.
                Token::Word(word) if word == "self" && !segments.is_empty() => {}
                Token::Word(word) => segments.push(word),
                _ => {}
            }
            self.at += 1;
        }
        if !branched && !segments.is_empty() {
            let imported_as = renamed.or_else(|| segments.last().cloned());
            written.push(Written { line, segments, imported_as, module: self.module.clone(), global });
        }
    }
}

fn resolve(written: &[Written], own_modules: &[String]) -> Vec<PathUse> {
    let mut found = Vec::new();
    for path in written {
        let first = path.segments[0].as_str();
        let imported = |name: &str| written.iter().find(|w| w.imported_as.as_deref() == Some(name));
        let from_import = imported(first).filter(|w| !std::ptr::eq(*w, path) && w.segments[0] != first);
        let segments = match from_import {
            Some(import) if !path.global => {
                let head = absolute(&import.segments, &import.module);
                [head, path.segments[1..].to_vec()].concat()
            }
            _ => absolute(&path.segments, &path.module),
        };
        let first = segments[0].as_str();
        let local = own_modules.iter().any(|m| m == first) || !first.starts_with(|c: char| c.is_lowercase());
        let builtin = BUILTIN.contains(&first);
        if path.global || !(local || builtin) {
            found.push(PathUse { line: path.line, segments });
        }
    }
    found
}

/// Types that take `::` without being a crate or a module.
const BUILTIN: &[&str] = &[
    "u8", "u16", "u32", "u64", "u128", "usize", "i8", "i16", "i32", "i64", "i128", "isize", "f32", "f64",
    "bool", "char", "str",
];

fn absolute(segments: &[String], module: &[String]) -> Vec<String> {
    let supers = segments.iter().take_while(|s| *s == "super" || *s == "self").count();
    if supers == 0 {
        return segments.to_vec();
    }
    let up = segments.iter().take(supers).filter(|s| *s == "super").count();
    let base = &module[..module.len().saturating_sub(up)];
    let mut path = vec!["crate".to_owned()];
    path.extend(base.iter().chain(&segments[supers..]).cloned());
    path
}
