//! JSON by RFC 8259, while it passes: a push parser whose chunks may end anywhere.
//! Nothing is kept of what has passed but the place in the document, so memory is bounded whatever
//! the body's size; nothing is allocated but what [`Look`] keeps, who knows what members mean. Strict:
//! no BOM, no invalid UTF-8, no trailing data, 128 levels at most.

use super::number::Number;
use super::text::{Pieces, Utf8, escaped, plain};

/// Levels that arrays and objects may stand in each other.
const DEEPEST: u32 = 128;

/// What somebody wants to see of a document. `depth` is that of the container around, from 1.
pub(super) trait Look {
    /// Whether names of members matter here.
    fn minds_keys(&self, depth: u32) -> bool;
    /// A member's name, where it matters; `None` where it is longer than is kept.
    fn key(&mut self, depth: u32, key: Option<&[u8]>) -> Result<(), Stop>;
    /// A member's name elsewhere.
    fn other_key(&mut self);
    /// An element of an array comes next.
    fn element(&mut self, depth: u32);
    /// The value that comes next is an object or an array, now around.
    fn open(&mut self, depth: u32, object: bool);
    /// Whether the value that comes next must be a name.
    fn wants_name(&self) -> bool;
    /// Whether it is one if it is text.
    fn takes_name(&self) -> bool;
    /// It was this.
    fn name(&mut self, text: Option<&[u8]>) -> Result<(), Stop>;
}

/// Why a document ends here.
pub(super) enum Stop {
    /// What is wrong with it.
    Syntax(&'static str),
    /// A member stands twice.
    Duplicate,
    /// A name was wanted.
    NotAName,
    /// More names than are kept.
    TooMany,
}

const ODD: Stop = Stop::Syntax("an unexpected character");
const HALF: Stop = Stop::Syntax("half a surrogate pair");

/// What is left of a chunk.
type Rest<'c> = Result<&'c [u8], Stop>;

/// Stands at a place in a document.
pub(super) struct Parser {
    state: State,
    /// What the text at hand is.
    role: Role,
    pieces: Pieces,
    depth: u32,
    /// Of each container around, the innermost lowest: whether it is an object.
    objects: u128,
    utf8: Utf8,
    /// Bytes of earlier chunks.
    passed: u64,
}

/// What may come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Value,
    /// Or the end of the array.
    Element,
    /// Or the end of the object.
    FirstKey,
    Key,
    Colon,
    /// A comma, or the end of what is around.
    Next,
    Text,
    Escape,
    /// So many digits, and what came of those before.
    Digits(u8, u16),
    Number(Number),
    /// The rest of `true`, `false` or `null`.
    Literal(&'static [u8]),
    /// Blanks.
    End,
    /// It was refused.
    Over,
}

/// What a text is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    /// A value that names nothing.
    Other,
    /// A member's name that does not matter.
    OtherKey,
    /// A member's name that does.
    Key,
    /// A value that names something.
    Name,
}

impl Role {
    const fn matters(self) -> bool {
        matches!(self, Self::Key | Self::Name)
    }
}

impl Parser {
    /// Before the first byte.
    pub(super) fn new() -> Self {
        Self {
            state: State::Value,
            role: Role::Other,
            pieces: Pieces::default(),
            depth: 0,
            objects: 0,
            utf8: Utf8::default(),
            passed: 0,
        }
    }

    /// Takes the next chunk.
    ///
    /// # Errors
    /// Why it was refused, and how many bytes into the document; after that everything is.
    pub(super) fn feed(&mut self, chunk: &[u8], look: &mut impl Look) -> Result<(), (Stop, u64)> {
        if !self.utf8.take(chunk) {
            self.state = State::Over;
            return Err((Stop::Syntax("no UTF-8"), self.passed));
        }
        let mut rest = chunk;
        while !rest.is_empty() {
            match self.step(rest, look) {
                Ok(left) => rest = left,
                Err(stop) => {
                    self.state = State::Over;
                    return Err((stop, self.passed + (chunk.len() - rest.len()) as u64));
                }
            }
        }
        self.passed += chunk.len() as u64;
        Ok(())
    }

    /// The body has ended.
    ///
    /// # Errors
    /// The document has not.
    pub(super) fn finish(&mut self) -> Result<(), (Stop, u64)> {
        let ended = match self.state {
            State::End => true,
            State::Number(number) => self.depth == 0 && number.may_end(),
            _ => false,
        };
        if ended && self.utf8.is_whole() {
            return Ok(());
        }
        self.state = State::Over;
        Err((Stop::Syntax("an early end"), self.passed))
    }

    #[inline]
    fn step<'c>(&mut self, text: &'c [u8], look: &mut impl Look) -> Rest<'c> {
        match self.state {
            State::Text if self.role.matters() => self.read(text, look),
            State::Text => self.skip(text, look),
            State::Number(number) => self.number(number, text),
            State::Literal(due) => self.literal(due, text),
            State::Escape => self.escape(text),
            State::Digits(left, unit) => self.digits(left, unit, text),
            _ => self.structure(text, look),
        }
    }

    /// What stands between values and texts.
    #[inline]
    fn structure<'c>(&mut self, text: &'c [u8], look: &mut impl Look) -> Rest<'c> {
        let rest = skip_blanks(text);
        let Some((byte, tail)) = rest.split_first() else { return Ok(rest) };
        let in_object = self.objects & 1 == 1;
        match (self.state, *byte) {
            (State::Colon, b':') => self.state = State::Value,
            (State::FirstKey | State::Key, b'"') => {
                let minds = look.minds_keys(self.depth);
                self.begin(if minds { Role::Key } else { Role::OtherKey });
            }
            (State::Next, b',') if in_object => self.state = State::Key,
            (State::Next, b',') => {
                look.element(self.depth);
                self.state = State::Value;
            }
            (State::Next | State::FirstKey, b'}') if in_object => self.close(),
            (State::Next | State::Element, b']') if !in_object => self.close(),
            (State::Value | State::Element, byte) => self.value(byte, look)?,
            (State::End, _) => return Err(Stop::Syntax("something behind the document")),
            _ => return Err(ODD),
        }
        Ok(tail)
    }

    fn value(&mut self, byte: u8, look: &mut impl Look) -> Result<(), Stop> {
        if byte == b'"' {
            self.begin(if look.takes_name() { Role::Name } else { Role::Other });
            return Ok(());
        }
        let state = match byte {
            b'{' => State::FirstKey,
            b'[' => State::Element,
            b't' => State::Literal(b"rue"),
            b'f' => State::Literal(b"alse"),
            b'n' => State::Literal(b"ull"),
            _ => State::Number(Number::begin(byte).ok_or(ODD)?),
        };
        if look.wants_name() {
            return Err(Stop::NotAName);
        }
        match state {
            State::FirstKey => self.open(true, look)?,
            State::Element => {
                self.open(false, look)?;
                look.element(self.depth);
            }
            _ => {}
        }
        self.state = state;
        Ok(())
    }

    fn open(&mut self, object: bool, look: &mut impl Look) -> Result<(), Stop> {
        if self.depth == DEEPEST {
            return Err(Stop::Syntax("more than 128 levels"));
        }
        self.depth += 1;
        self.objects = self.objects << 1 | u128::from(object);
        look.open(self.depth, object);
        Ok(())
    }

    fn close(&mut self) {
        self.depth -= 1;
        self.objects >>= 1;
        self.state = self.behind();
    }

    /// What may come behind a value.
    const fn behind(&self) -> State {
        if self.depth == 0 { State::End } else { State::Next }
    }

    fn begin(&mut self, role: Role) {
        self.role = role;
        self.pieces.clear();
        self.state = State::Text;
    }

    /// A text that is not looked at.
    #[inline]
    fn skip<'c>(&mut self, text: &'c [u8], look: &mut impl Look) -> Rest<'c> {
        let mut rest = text;
        loop {
            rest = rest.get(plain(rest)..).unwrap_or_default();
            match rest {
                [] => return Ok(rest),
                [b'"', tail @ ..] => {
                    if self.role == Role::OtherKey {
                        look.other_key();
                        self.state = State::Colon;
                    } else {
                        self.state = self.behind();
                    }
                    return Ok(tail);
                }
                [b'\\', byte, tail @ ..] if escaped(*byte).is_some() => rest = tail,
                [b'\\', tail @ ..] => {
                    self.state = State::Escape;
                    return Ok(tail);
                }
                _ => return Err(Stop::Syntax("a control character")),
            }
        }
    }

    /// A text that is looked at.
    fn read<'c>(&mut self, text: &'c [u8], look: &mut impl Look) -> Rest<'c> {
        if self.pieces.is_open() && text.first() != Some(&b'\\') {
            return Err(HALF);
        }
        let (piece, rest) = text.split_at_checked(plain(text)).unwrap_or((text, &[]));
        match rest {
            [b'"', tail @ ..] if !self.pieces.begun() => {
                self.ended(Some(piece), look)?;
                Ok(tail)
            }
            [b'"', tail @ ..] => {
                self.pieces.push(piece);
                let pieces = std::mem::take(&mut self.pieces);
                self.ended(pieces.text(), look)?;
                Ok(tail)
            }
            [] => {
                self.pieces.push(piece);
                Ok(rest)
            }
            [b'\\', tail @ ..] => {
                self.pieces.push(piece);
                self.state = State::Escape;
                Ok(tail)
            }
            _ => Err(Stop::Syntax("a control character")),
        }
    }

    fn escape<'c>(&mut self, text: &'c [u8]) -> Rest<'c> {
        let Some((byte, rest)) = text.split_first() else { return Ok(text) };
        if *byte == b'u' {
            self.state = State::Digits(4, 0);
            return Ok(rest);
        }
        let byte = escaped(*byte).ok_or(Stop::Syntax("an unknown escape"))?;
        if self.pieces.is_open() {
            return Err(HALF);
        }
        if self.role.matters() {
            self.pieces.push(&[byte]);
        }
        self.state = State::Text;
        Ok(rest)
    }

    fn digits<'c>(&mut self, left: u8, unit: u16, text: &'c [u8]) -> Rest<'c> {
        let Some((byte, rest)) = text.split_first() else { return Ok(text) };
        let digit = char::from(*byte).to_digit(16).ok_or(Stop::Syntax("an unknown escape"))?;
        let unit = unit << 4 | digit as u16;
        self.state = State::Digits(left - 1, unit);
        if left == 1 {
            self.state = State::Text;
            if self.role.matters() && !self.pieces.push_unit(unit) {
                return Err(HALF);
            }
        }
        Ok(rest)
    }

    #[inline]
    fn number<'c>(&mut self, mut number: Number, text: &'c [u8]) -> Rest<'c> {
        let mut rest = text;
        if number == Number::Whole {
            // Most numbers are short and whole.
            let digits = rest.iter().position(|b| !b.is_ascii_digit()).unwrap_or(rest.len());
            rest = rest.get(digits..).unwrap_or_default();
        }
        while let Some((byte, tail)) = rest.split_first() {
            match number.next(*byte) {
                Some(next) => number = next,
                None if number.may_end() => {
                    self.state = self.behind();
                    return Ok(rest);
                }
                None => return Err(ODD),
            }
            rest = tail;
        }
        self.state = State::Number(number);
        Ok(rest)
    }

    fn literal<'c>(&mut self, due: &'static [u8], text: &'c [u8]) -> Rest<'c> {
        let (mut due, mut rest) = (due, text);
        while let (Some((wanted, later)), Some((byte, tail))) =
            (due.split_first(), rest.split_first())
        {
            if wanted != byte {
                return Err(ODD);
            }
            (due, rest) = (later, tail);
        }
        self.state = if due.is_empty() { self.behind() } else { State::Literal(due) };
        Ok(rest)
    }

    /// A text that matters has ended.
    fn ended(&mut self, text: Option<&[u8]>, look: &mut impl Look) -> Result<(), Stop> {
        if self.role == Role::Key {
            self.state = State::Colon;
            return look.key(self.depth, text);
        }
        self.state = self.behind();
        look.name(text)
    }
}

/// Behind the blanks of RFC 8259 section 2.
#[inline]
fn skip_blanks(text: &[u8]) -> &[u8] {
    let mut rest = text;
    while let [b' ' | b'\n' | b'\r' | b'\t', tail @ ..] = rest {
        rest = tail;
    }
    rest
}
