//! Templates: text with variables, parsed once and rendered many times without allocating.
//!
//! | written | stands for |
//! |-|-|
//! | `%c` `%u` | client identifier, user name |
//! | `%i` `%g` | the client's number in its group from 0, the group's name |
//! | `%t` | the topic's number from 0, where a publication goes round several |
//! | `%s` | the stamp, 32 hexadecimal digits, once and in a fixed place at the beginning of a payload |
//! | `%T` | Unix time in milliseconds |
//! | `%%` | a per cent sign |
//! | `%{i / 8 + 1}` | whole-number arithmetic (see [`Expression`]) |
//! | `%{i:kitchen\|bath\|hall}` | one of these words: the number modulo how many there are |
//! | `%{random(0,100)}` `%{random(18.0,25.0)}` | a number between these, both included, with as many decimals as are written |

mod expression;
mod parse;
#[cfg(test)]
mod tests;

pub use expression::{Expression, Numbers};
pub use parse::{Parameters, TemplateError, evaluate, resolve};

/// What a text payload begins with; the stamp's digits come right after it.
pub const STAMP_PREFIX: &str = "{\"stamp\":\"";
/// Where the stamp's digits begin in a text payload.
pub const STAMP_AT: usize = STAMP_PREFIX.len();
/// How many digits a stamp has.
pub const STAMP_DIGITS: usize = 32;

/// What a template is for, which says what it may speak of: what does not exist there, or would make two renderings
/// differ where they must not, is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// A client identifier. It is what `%c` stands for elsewhere.
    ClientId,
    /// A user name. It is what `%u` stands for elsewhere.
    User,
    /// A password.
    Password,
    /// A user property of CONNECT.
    ConnectProperty,
    /// A topic filter.
    Filter,
    /// The topic of a publication.
    Topic,
    /// The topic of a will.
    WillTopic,
    /// The payload of a will.
    WillPayload,
    /// A payload, which begins with [`STAMP_PREFIX`] and `%s`.
    Payload,
    /// A user property of PUBLISH.
    PublishProperty,
}

/// What can differ from one rendering to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variable {
    /// `%c`
    ClientId,
    /// `%u`
    User,
    /// `%g`
    Group,
    /// `%i`, and `i` in expressions.
    Index,
    /// `%t`, and `t` in expressions.
    Topic,
    /// `%s`
    Stamp,
    /// `%T`
    Time,
    /// `random(…)`
    Random,
}

/// What the variables stand for in one rendering. What the template's [`Place`] does not allow is not looked at.
#[derive(Clone, Copy, Debug, Default)]
pub struct Values<'a> {
    /// `%c`
    pub client_id: &'a str,
    /// `%u`
    pub user: &'a str,
    /// `%g`
    pub group: &'a str,
    /// `%i`
    pub index: u32,
    /// `%t`
    pub topic: u32,
    /// `n` in expressions: how many clients the group has.
    pub count: u32,
    /// `%s`
    pub stamp: [u8; 16],
    /// `%T`
    pub unix_ms: u64,
}

/// A parsed template.
#[derive(Clone, Debug, PartialEq)]
pub struct Template {
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq)]
enum Part {
    Text(Box<str>),
    Variable(Variable),
    Number(Expression),
    Word(Expression, Box<[Box<str>]>),
    /// Between two whole numbers of this many decimals.
    Decimal {
        low: i64,
        high: i64,
        decimals: u32,
    },
}

impl Template {
    /// Parses a template whose expressions name no parameters (see [`resolve`]).
    ///
    /// # Errors
    ///
    /// What can't be understood, or means nothing at this place, with its column.
    pub fn parse(place: Place, text: &str) -> Result<Self, TemplateError> {
        parse::parse(place, text).map(|parts| Self { parts })
    }

    /// Appends the text with these values in it. Allocates nothing but what `output` lacks in capacity.
    pub fn render(&self, values: &Values<'_>, random: &mut fastrand::Rng, output: &mut Vec<u8>) {
        let numbers = Numbers::from(values);
        for part in &self.parts {
            match part {
                Part::Text(text) => output.extend_from_slice(text.as_bytes()),
                Part::Variable(variable) => push_variable(*variable, values, output),
                Part::Number(expression) => push_number(expression.value(&numbers, random), output),
                Part::Word(expression, words) => {
                    let at = expression.value(&numbers, random).rem_euclid(words.len() as i64);
                    output.extend_from_slice(words[at as usize].as_bytes());
                }
                Part::Decimal { low, high, decimals } => push_decimal(random.i64(*low..=*high), *decimals, output),
            }
        }
    }

    /// Whether what is rendered depends on this. (`n` is the same for the whole group.)
    pub fn depends_on(&self, variable: Variable) -> bool {
        self.parts.iter().any(|part| match part {
            Part::Text(_) => false,
            Part::Variable(used) => *used == variable,
            Part::Number(expression) | Part::Word(expression, _) => expression.depends_on(variable),
            Part::Decimal { .. } => variable == Variable::Random,
        })
    }
}

impl From<&Values<'_>> for Numbers {
    fn from(values: &Values<'_>) -> Self {
        Self { index: values.index.into(), topic: values.topic.into(), count: values.count.into() }
    }
}

fn push_variable(variable: Variable, values: &Values<'_>, output: &mut Vec<u8>) {
    match variable {
        Variable::ClientId => output.extend_from_slice(values.client_id.as_bytes()),
        Variable::User => output.extend_from_slice(values.user.as_bytes()),
        Variable::Group => output.extend_from_slice(values.group.as_bytes()),
        Variable::Index => push_number(values.index.into(), output),
        Variable::Topic => push_number(values.topic.into(), output),
        Variable::Stamp => push_stamp(&values.stamp, output),
        Variable::Time => output.extend_from_slice(itoa::Buffer::new().format(values.unix_ms).as_bytes()),
        Variable::Random => unreachable!("the parser makes expressions and decimals of random numbers"),
    }
}

/// Appends a stamp as [`STAMP_DIGITS`] hexadecimal digits.
pub fn push_stamp(stamp: &[u8; 16], output: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    output.extend(stamp.iter().flat_map(|byte| [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]));
}

/// Reads what [`push_stamp`] wrote; `None` for anything else.
pub fn read_stamp(digits: &[u8]) -> Option<[u8; 16]> {
    fn value(digit: u8) -> Option<u8> {
        match digit {
            b'0'..=b'9' => Some(digit - b'0'),
            b'a'..=b'f' => Some(digit - b'a' + 10),
            _ => None,
        }
    }
    let digits: &[u8; STAMP_DIGITS] = digits.try_into().ok()?;
    let mut stamp = [0; 16];
    for (byte, pair) in stamp.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = value(pair[0])? << 4 | value(pair[1])?;
    }
    Some(stamp)
}

fn push_number(number: i64, output: &mut Vec<u8>) {
    output.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// Appends `scaled` / 10^`decimals`.
fn push_decimal(scaled: i64, decimals: u32, output: &mut Vec<u8>) {
    if scaled < 0 {
        output.push(b'-');
    }
    let unit = 10_u64.pow(decimals);
    let (whole, mut rest) = (scaled.unsigned_abs() / unit, scaled.unsigned_abs() % unit);
    output.extend_from_slice(itoa::Buffer::new().format(whole).as_bytes());
    output.push(b'.');
    for place in (0..decimals).rev() {
        let unit = 10_u64.pow(place);
        output.push(b'0' + (rest / unit) as u8);
        rest %= unit;
    }
}
