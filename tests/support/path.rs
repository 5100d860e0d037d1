//! The paths that a Rust file names, read from its tokens.
//!
//! It knows `use` trees, paths in code, `super` below inline modules, and `#[cfg(test)]`.

use super::source::{Source, code_only, is_word};

/// What a file names, each with its line.
#[derive(Debug)]
pub(crate) struct Named {
    /// Paths of its own crate, from the root: `["token", "index"]` for `crate::token::index`, or
    /// for `super::index` in `token`. Not those of tests.
    pub(crate) own: Vec<(usize, Vec<String>)>,
    /// First segments of other paths: crates, and whatever else may stand there. Tests' too.
    pub(crate) first: Vec<(usize, String)>,
}

/// Reads what `source` names.
pub(crate) fn named(source: &Source) -> Named {
    let tokens = tokenize(&code_only(&source.text));
    Named { own: Scan::new(&tokens, source.module()).paths(), first: first_segments(&tokens) }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Word(String),
    /// `::`
    Sep,
    Sign(char),
}

type Tokens = [(usize, Token)];

fn tokenize(code: &str) -> Vec<(usize, Token)> {
    let (mut tokens, mut line) = (Vec::new(), 1);
    let mut chars = code.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\n' => line += 1,
            ':' if chars.next_if_eq(&':').is_some() => tokens.push((line, Token::Sep)),
            c if is_word(c) => {
                let mut word = String::from(c);
                while let Some(c) = chars.next_if(|c| is_word(*c)) {
                    word.push(c);
                }
                tokens.push((line, Token::Word(word)));
            }
            c if c.is_whitespace() => {}
            c => tokens.push((line, Token::Sign(c))),
        }
    }
    tokens
}

/// What a path begins with, or is the whole of a `use`.
fn first_segments(tokens: &Tokens) -> Vec<(usize, String)> {
    let at = |i: usize| tokens.get(i).map(|(_, token)| token);
    let mut found = Vec::new();
    for (i, (line, token)) in tokens.iter().enumerate() {
        let Token::Word(name) = token else { continue };
        let before = |n: usize| i.checked_sub(n).and_then(at);
        let inside = before(1) == Some(&Token::Sep)
            && matches!(before(2), Some(Token::Word(_) | Token::Sign('>')))
            && before(2) != Some(&Token::Word("use".to_owned()));
        let used = matches!(before(1), Some(Token::Word(w)) if w == "use" || w == "crate");
        if !inside && (used || at(i + 1) == Some(&Token::Sep)) {
            found.push((*line, name.clone()));
        }
    }
    found
}

/// Goes over a file's tokens with an eye on inline modules, for `super`.
struct Scan<'a> {
    tokens: &'a Tokens,
    file: Vec<String>,
    /// Inline modules around here, with the depth of braces at which they end.
    inline: Vec<(String, usize)>,
    depth: usize,
}

impl<'a> Scan<'a> {
    fn new(tokens: &'a Tokens, file: Vec<String>) -> Self {
        Self { tokens, file, inline: Vec::new(), depth: 0 }
    }

    fn at(&self, i: usize) -> Option<&'a Token> {
        self.tokens.get(i).map(|(_, token)| token)
    }

    fn word(&self, i: usize) -> &'a str {
        match self.at(i) {
            Some(Token::Word(word)) => word,
            _ => "",
        }
    }

    fn is(&self, i: usize, signs: &str) -> bool {
        signs.chars().enumerate().all(|(n, c)| self.at(i + n) == Some(&Token::Sign(c)))
    }

    /// Every path that begins at the crate's root, with its line.
    fn paths(mut self) -> Vec<(usize, Vec<String>)> {
        let (mut found, mut i) = (Vec::new(), 0);
        // A file of its own for tests.
        if self.file.iter().any(|part| part == "tests") {
            return found;
        }
        while i < self.tokens.len() {
            if self.is_test_attribute(i) {
                i = self.item_end(i + 7);
                continue;
            }
            match (&self.tokens[i].1, self.word(i)) {
                (_, "mod") if self.is(i + 2, "{") => {
                    self.inline.push((self.word(i + 1).to_owned(), self.depth));
                }
                (Token::Sign('{'), _) => self.depth += 1,
                (Token::Sign('}'), _) => {
                    self.depth = self.depth.saturating_sub(1);
                    self.inline.retain(|(_, depth)| *depth < self.depth);
                }
                (_, "crate" | "super")
                    if self.at(i + 1) == Some(&Token::Sep)
                        && (i == 0 || self.at(i - 1) != Some(&Token::Sep)) =>
                {
                    let mut paths = Vec::new();
                    i = self.tree(i, &[], &mut paths);
                    let resolved =
                        paths.into_iter().map(|(line, path)| (line, self.resolve(&path)));
                    found.extend(resolved);
                    continue;
                }
                _ => {}
            }
            i += 1;
        }
        found
    }

    /// `#[cfg(test)]`
    fn is_test_attribute(&self, i: usize) -> bool {
        let test = (self.word(i + 2), self.word(i + 4)) == ("cfg", "test");
        test && self.is(i, "#[") && self.is(i + 3, "(") && self.is(i + 5, ")]")
    }

    /// Behind the item that begins at `i`, its attributes included.
    fn item_end(&self, mut i: usize) -> usize {
        let mut depth = 0_usize;
        while let Some(token) = self.at(i) {
            i += 1;
            match token {
                Token::Sign('(' | '[' | '{') => depth += 1,
                Token::Sign(c @ (')' | ']' | '}')) => {
                    depth = depth.saturating_sub(1);
                    if depth == 0 && *c == '}' {
                        return i;
                    }
                }
                Token::Sign(';') if depth == 0 => return i,
                _ => {}
            }
        }
        i
    }

    /// The paths of a use tree, or of a path in code, that begins at `i`; returns its end.
    fn tree(&self, mut i: usize, prefix: &[String], out: &mut Vec<(usize, Vec<String>)>) -> usize {
        let mut path = prefix.to_vec();
        loop {
            let line = self.tokens.get(i).map_or(0, |(line, _)| *line);
            match self.at(i) {
                Some(Token::Word(word)) => {
                    path.push(word.clone());
                    i += 1;
                    if self.at(i) != Some(&Token::Sep) {
                        out.push((line, path));
                        return i;
                    }
                    i += 1;
                }
                Some(Token::Sign('{')) => {
                    i += 1;
                    while i < self.tokens.len() && !self.is(i, "}") {
                        i = self.tree(i, &path, out);
                        while i < self.tokens.len() && !self.is(i, "}") && !self.is(i, ",") {
                            i += 1;
                        }
                        i += usize::from(self.is(i, ","));
                    }
                    return i + 1;
                }
                // A glob, or generic arguments.
                _ => {
                    out.push((line, path));
                    return i + 1;
                }
            }
        }
    }

    fn resolve(&self, path: &[String]) -> Vec<String> {
        let own = self.file.iter().chain(self.inline.iter().map(|(name, _)| name));
        let mut resolved: Vec<String> = own.cloned().collect();
        for part in path {
            match part.as_str() {
                "crate" => resolved.clear(),
                "super" => drop(resolved.pop()),
                "self" => {}
                part => resolved.push(part.to_owned()),
            }
        }
        resolved
    }
}
