//! From the text of a template to its parts, or to what is wrong with it and where.

use super::expression::{Expression, Operator};
use super::{Part, Place, STAMP_PREFIX, Variable};

/// How deep parentheses may nest, so that neither parsing nor rendering can run out of stack.
const DEPTH_MAX: u32 = 32;
/// How many decimals a random number may have.
const DECIMALS_MAX: usize = 9;

/// What a template can't be read for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} at column {column} of the template {template:?}; {remedy}")]
pub struct TemplateError {
    /// The template.
    pub template: String,
    /// Where in it, in characters from 1.
    pub column: usize,
    /// What is wrong there.
    pub what: String,
    /// What to do about it.
    pub remedy: String,
}

/// The whole-number parameters of a scenario.
pub trait Parameters {
    /// The value of one; `None` if it does not exist or is no whole number.
    fn number(&self, name: &str) -> Option<i64>;
    /// The names of all that [`Self::number`] knows, for messages.
    fn names(&self) -> Vec<String>;
}

/// Writes the numbers of a scenario's parameters in place of their names in `%{…}`, so that the template can be
/// parsed without them.
///
/// # Errors
///
/// A name that is neither a parameter nor `i`, `t`, `n` or `random`.
pub fn resolve(text: &str, parameters: &dyn Parameters) -> Result<String, TemplateError> {
    let mut resolved = String::with_capacity(text.len());
    let mut reader = Reader::new(text, Place::Payload);
    while let Some(character) = reader.next() {
        resolved.push(character);
        if character != '%' {
            continue;
        }
        let Some(kind) = reader.next() else { break };
        resolved.push(kind);
        if kind == '{' {
            reader.resolve_names(parameters, &mut resolved)?;
        }
    }
    Ok(resolved)
}

/// The value of an expression of numbers and parameters: `pairs * 2`.
///
/// # Errors
///
/// What can't be understood, or depends on a client.
pub fn evaluate(text: &str, parameters: &dyn Parameters) -> Result<i64, TemplateError> {
    let mut resolved = String::new();
    Reader::new(text, Place::Payload).resolve_names(parameters, &mut resolved)?;
    let mut reader = Reader::new(&resolved, Place::Payload);
    let expression = reader.expression(0)?;
    if reader.peek().is_some() {
        return Err(reader.unexpected("an operator or the end"));
    }
    let remedy = "use numbers and parameters only";
    expression.constant().ok_or_else(|| reader.error(0, "it is not the same for every client".to_owned(), remedy))
}

pub(super) fn parse(place: Place, text: &str) -> Result<Vec<Part>, TemplateError> {
    let mut reader = Reader::new(text, place);
    if place == Place::Payload && !text.starts_with(&format!("{STAMP_PREFIX}%s\"")) {
        let remedy = "begin it with {\"stamp\":\"%s\", or give a number of bytes instead of a text";
        return Err(reader.error(0, "no stamp, by which its arrival could be recognized,".to_owned(), remedy));
    }
    let mut parts = Vec::new();
    let mut literal = String::new();
    while let Some(character) = reader.next() {
        if character != '%' {
            literal.push(character);
        } else if reader.eat('%') {
            literal.push('%');
        } else {
            if !literal.is_empty() {
                parts.push(Part::Text(std::mem::take(&mut literal).into()));
            }
            parts.push(reader.placeholder()?);
        }
    }
    if !literal.is_empty() {
        parts.push(Part::Text(literal.into()));
    }
    Ok(parts)
}

struct Reader<'a> {
    text: &'a str,
    /// Bytes read.
    at: usize,
    place: Place,
}

impl<'a> Reader<'a> {
    fn new(text: &'a str, place: Place) -> Self {
        Self { text, at: 0, place }
    }

    fn peek(&self) -> Option<char> {
        self.text[self.at..].chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let character = self.peek()?;
        self.at += character.len_utf8();
        Some(character)
    }

    fn eat(&mut self, wanted: char) -> bool {
        let is_next = self.peek() == Some(wanted);
        self.at += if is_next { wanted.len_utf8() } else { 0 };
        is_next
    }

    fn skip_spaces(&mut self) {
        while self.eat(' ') {}
    }

    fn take_while(&mut self, wanted: impl Fn(char) -> bool) -> &'a str {
        let rest = &self.text[self.at..];
        let taken = &rest[..rest.find(|character| !wanted(character)).unwrap_or(rest.len())];
        self.at += taken.len();
        taken
    }

    fn error(&self, at: usize, what: String, remedy: &str) -> TemplateError {
        let column = self.text[..at].chars().count() + 1;
        TemplateError { template: self.text.to_owned(), column, what, remedy: remedy.to_owned() }
    }

    fn unexpected(&self, wanted: &str) -> TemplateError {
        let what = self.peek().map_or("the end".to_owned(), |character| format!("'{character}'"));
        self.error(self.at, format!("{what}, where {wanted} should stand,"), "%% is a per cent sign")
    }

    /// What comes after a `%`.
    fn placeholder(&mut self) -> Result<Part, TemplateError> {
        let start = self.at - 1;
        let variable = match self.next() {
            Some('{') => return self.braces(),
            Some('c') => Variable::ClientId,
            Some('u') => Variable::User,
            Some('g') => Variable::Group,
            Some('i') => Variable::Index,
            Some('t') => Variable::Topic,
            Some('s') => Variable::Stamp,
            Some('T') => Variable::Time,
            other => {
                let what = other.map_or("a lone '%'".to_owned(), |other| format!("unknown variable '%{other}'"));
                let remedy = "write one of %c %u %i %g %t %s %T %{EXPRESSION}, or %% for a per cent sign";
                return Err(self.error(start, what, remedy));
            }
        };
        self.allow(variable, start)?;
        Ok(Part::Variable(variable))
    }

    /// What comes after `%{`, up to the `}`.
    fn braces(&mut self) -> Result<Part, TemplateError> {
        if let Some(decimal) = self.decimal()? {
            return Ok(decimal);
        }
        let expression = self.expression(0)?;
        if self.eat('}') {
            return Ok(Part::Number(expression));
        }
        if !self.eat(':') {
            return Err(self.unexpected("an operator, ':' or '}'"));
        }
        let words = self.take_while(|character| character != '}');
        if !self.eat('}') {
            return Err(self.unexpected("'}'"));
        }
        Ok(Part::Word(expression, words.split('|').map(Box::from).collect()))
    }

    /// `random(18.0,25.0)}`; nothing is read when it is anything else.
    fn decimal(&mut self) -> Result<Option<Part>, TemplateError> {
        let start = self.at;
        let inside = self.take_while(|character| character != '}');
        let bounds = inside.trim().strip_prefix("random(").and_then(|rest| rest.strip_suffix(')'));
        let Some((low, high)) = bounds.and_then(|bounds| bounds.split_once(',')) else {
            self.at = start;
            return Ok(None);
        };
        let decimals = [low, high].map(|bound| bound.trim().split_once('.').map_or(0, |(_, digits)| digits.len()));
        let decimals = decimals[0].max(decimals[1]);
        if decimals == 0 {
            self.at = start;
            return Ok(None);
        }
        self.allow(Variable::Random, start)?;
        let remedy = "write random(LOW,HIGH) with at most 9 decimals and LOW not above HIGH";
        let wrong = || self.error(start, format!("'{inside}' is no range of numbers"), remedy);
        let bound = |text: &str| scaled(text.trim(), decimals).ok_or_else(wrong);
        let (low, high) = (bound(low)?, bound(high)?);
        if decimals > DECIMALS_MAX || low > high {
            return Err(wrong());
        }
        if !self.eat('}') {
            return Err(self.unexpected("'}'"));
        }
        Ok(Some(Part::Decimal { low, high, decimals: decimals as u32 }))
    }

    fn expression(&mut self, depth: u32) -> Result<Expression, TemplateError> {
        let mut left = self.term(depth)?;
        loop {
            self.skip_spaces();
            let operator = match self.peek() {
                Some('+') => Operator::Add,
                Some('-') => Operator::Subtract,
                _ => return Ok(left),
            };
            self.next();
            left = Expression::Binary(operator, left.into(), self.term(depth)?.into());
        }
    }

    fn term(&mut self, depth: u32) -> Result<Expression, TemplateError> {
        let mut left = self.factor(depth)?;
        loop {
            self.skip_spaces();
            let operator = match self.peek() {
                Some('*') => Operator::Multiply,
                Some('/') => Operator::Divide,
                Some('%') => Operator::Remainder,
                _ => return Ok(left),
            };
            let start = self.at;
            self.next();
            let right = self.factor(depth)?;
            if operator != Operator::Multiply && right.constant() == Some(0) {
                return Err(self.error(start, "a division by zero".to_owned(), "divide by something else"));
            }
            left = Expression::Binary(operator, left.into(), right.into());
        }
    }

    fn factor(&mut self, depth: u32) -> Result<Expression, TemplateError> {
        self.skip_spaces();
        if depth >= DEPTH_MAX {
            return Err(self.error(self.at, "too many nested parentheses".to_owned(), "write it simpler"));
        }
        if self.eat('(') {
            let inner = self.expression(depth + 1)?;
            self.skip_spaces();
            return if self.eat(')') { Ok(inner) } else { Err(self.unexpected("an operator or ')'")) };
        }
        if self.eat('-') {
            let operand = self.factor(depth + 1)?;
            return Ok(Expression::Binary(Operator::Subtract, Expression::Constant(0).into(), operand.into()));
        }
        match self.peek() {
            Some('0'..='9') => self.number().map(Expression::Constant),
            Some(character) if is_name(character) => self.named(),
            _ => Err(self.unexpected("a number, a name or '('")),
        }
    }

    fn number(&mut self) -> Result<i64, TemplateError> {
        let start = self.at;
        let digits = self.take_while(|character| character.is_ascii_digit());
        digits.parse().map_err(|_| self.error(start, format!("{digits} is too large"), "stay below 2^63"))
    }

    fn named(&mut self) -> Result<Expression, TemplateError> {
        let start = self.at;
        match self.take_while(is_name) {
            "i" => Ok(Expression::Index),
            "n" => Ok(Expression::Count),
            "t" => self.allow(Variable::Topic, start).map(|()| Expression::Topic),
            "random" => self.allow(Variable::Random, start).and_then(|()| self.random()),
            name => Err(self.error(start, format!("unknown name '{name}'"), "there are i, t, n and random(LOW,HIGH)")),
        }
    }

    /// What comes after `random`.
    fn random(&mut self) -> Result<Expression, TemplateError> {
        let start = self.at;
        let opened = self.eat('(');
        let low = self.bound()?;
        let separated = self.eat(',');
        let high = self.bound()?;
        if !(opened && separated && self.eat(')')) || low > high {
            let what = "no range of whole numbers".to_owned();
            return Err(self.error(start, what, "write random(LOW,HIGH) with LOW not above HIGH"));
        }
        Ok(Expression::Random(low, high))
    }

    fn bound(&mut self) -> Result<i64, TemplateError> {
        self.skip_spaces();
        let sign = if self.eat('-') { -1 } else { 1 };
        if !self.peek().is_some_and(|character| character.is_ascii_digit()) {
            return Err(self.unexpected("a number (decimals only when random(…) stands alone)"));
        }
        let number = self.number()?;
        self.skip_spaces();
        Ok(sign * number)
    }

    /// Copies up to the end of an expression, with numbers for names of parameters.
    fn resolve_names(&mut self, parameters: &dyn Parameters, out: &mut String) -> Result<(), TemplateError> {
        while let Some(character) = self.peek() {
            if character == '}' || character == ':' {
                break;
            }
            if !is_name(character) || character.is_ascii_digit() {
                out.extend(self.next());
                continue;
            }
            let start = self.at;
            let name = self.take_while(is_name);
            match parameters.number(name) {
                _ if matches!(name, "i" | "t" | "n" | "random") => out.push_str(name),
                Some(number) if number < 0 => out.push_str(&format!("({number})")),
                Some(number) => out.push_str(&number.to_string()),
                None => {
                    let mut known = vec!["i".to_owned(), "t".into(), "n".into(), "random(LOW,HIGH)".into()];
                    known.extend(parameters.names());
                    let remedy = format!("there are {}", known.join(", "));
                    return Err(self.error(start, format!("unknown name '{name}'"), &remedy));
                }
            }
        }
        Ok(())
    }

    fn allow(&self, variable: Variable, at: usize) -> Result<(), TemplateError> {
        let (what, remedy) = match (variable, self.place) {
            (Variable::ClientId | Variable::User, Place::ClientId) => {
                ("a client identifier is made before anything else of the client", "use %i and %g")
            }
            (Variable::User, Place::User) => ("a user name can't hold itself", "use %c, %i and %g"),
            (Variable::Topic, Place::Topic | Place::Payload | Place::PublishProperty) => return Ok(()),
            (Variable::Topic, _) => ("only a publication has topic numbers", "use %i, or an expression of i"),
            (Variable::Stamp, Place::Payload) if at == STAMP_PREFIX.len() => return Ok(()),
            (Variable::Stamp, _) => ("only a payload has a stamp, and one only, at its beginning", "leave %s out here"),
            (Variable::Time | Variable::Random, place) if place.must_stay_the_same() => {
                ("this must come out the same each time", "use %i, %t, or an expression of them")
            }
            _ => return Ok(()),
        };
        Err(self.error(at, format!("{what}: not allowed"), remedy))
    }
}

impl Place {
    fn must_stay_the_same(self) -> bool {
        !matches!(self, Self::Payload | Self::WillPayload | Self::ConnectProperty | Self::PublishProperty)
    }
}

fn is_name(character: char) -> bool {
    character.is_ascii_alphanumeric() || character == '_'
}

/// A decimal number as a whole number of its last of so many decimals.
fn scaled(text: &str, decimals: usize) -> Option<i64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = whole.strip_prefix('-').unwrap_or(whole);
    let all_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if digits.is_empty() || !all_digits(digits) || !all_digits(fraction) {
        return None;
    }
    format!("{whole}{fraction:0<decimals$}").parse().ok()
}
