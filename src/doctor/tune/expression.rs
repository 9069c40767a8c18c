//! The small language in which the table of knobs says what it wants: whole numbers computed from the host and its load.
//!
//! ```text
//!     sum     = product { ("+" | "-") product }
//!     product = atom { ("*" | "/") atom }
//!     atom    = number ["Ki" | "Mi" | "Gi"] | variable | function "(" sum { "," sum } ")" | "(" sum ")"
//! ```
//!
//! Functions: `min`, `max`, `div_up(a, b)`, `pow2_up(a)`. Variables: [`Target::variable`].

use super::target::Target;

/// Why an expression has no value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExpressionError {
    /// It is not of the form above.
    #[error("\"{text}\" is no expression: {what} at \"{rest}\"")]
    Syntax {
        /// All of it.
        text: String,
        /// What is wrong.
        what: &'static str,
        /// From where on.
        rest: String,
    },
    /// Its value is below 0 or above 2^64 - 1, or it divides by 0.
    #[error("\"{0}\" leaves the range of whole numbers")]
    Range(String),
}

/// The value of `text` on the host that `target` describes.
///
/// # Errors
/// When it cannot be read or its value is no `u64`.
pub fn evaluate(text: &str, target: &Target) -> Result<u64, ExpressionError> {
    let mut reader = Reader { text, rest: text, target };
    let value = reader.sum()?;
    if reader.peek().is_some() {
        return Err(reader.wrong("the end was expected"));
    }
    Ok(value)
}

struct Reader<'a> {
    text: &'a str,
    rest: &'a str,
    target: &'a Target,
}

impl<'a> Reader<'a> {
    fn sum(&mut self) -> Result<u64, ExpressionError> {
        let mut value = self.product()?;
        loop {
            value = match self.peek() {
                Some('+') => self.next_product(value, u64::checked_add)?,
                Some('-') => self.next_product(value, u64::checked_sub)?,
                _ => return Ok(value),
            }
        }
    }

    fn product(&mut self) -> Result<u64, ExpressionError> {
        let mut value = self.atom()?;
        loop {
            let operation = match self.peek() {
                Some('*') => u64::checked_mul,
                Some('/') => u64::checked_div,
                _ => return Ok(value),
            };
            self.skip();
            value = operation(value, self.atom()?).ok_or_else(|| self.range())?;
        }
    }

    fn next_product(&mut self, left: u64, of: fn(u64, u64) -> Option<u64>) -> Result<u64, ExpressionError> {
        self.skip();
        of(left, self.product()?).ok_or_else(|| self.range())
    }

    fn atom(&mut self) -> Result<u64, ExpressionError> {
        match self.peek() {
            Some('(') => {
                self.skip();
                let value = self.sum()?;
                self.expect(')', "\")\" was expected")?;
                Ok(value)
            }
            Some(c) if c.is_ascii_digit() => self.number(),
            Some(c) if c.is_ascii_lowercase() => self.named(),
            _ => Err(self.wrong("a number, a variable or \"(\" was expected")),
        }
    }

    fn number(&mut self) -> Result<u64, ExpressionError> {
        let digits = self.take_while(|c| c.is_ascii_digit());
        let number: u64 = digits.parse().map_err(|_| self.range())?;
        let factor = match self.take_while(|c| c.is_ascii_alphabetic()) {
            "" => 1,
            "Ki" => 1 << 10,
            "Mi" => 1 << 20,
            "Gi" => 1 << 30,
            _ => return Err(self.wrong("the units are Ki, Mi and Gi, before this")),
        };
        number.checked_mul(factor).ok_or_else(|| self.range())
    }

    fn named(&mut self) -> Result<u64, ExpressionError> {
        let name = self.take_while(|c| c.is_ascii_alphanumeric() || c == '_');
        if self.peek() != Some('(') {
            return self.target.variable(name).ok_or_else(|| self.wrong("there is no such variable, before this"));
        }
        let arguments = self.arguments()?;
        let value = match (name, arguments.as_slice()) {
            ("min", [first, rest @ ..]) => Some(rest.iter().fold(*first, |least, each| least.min(*each))),
            ("max", [first, rest @ ..]) => Some(rest.iter().fold(*first, |most, each| most.max(*each))),
            ("div_up", [_, 0]) => None,
            ("div_up", [a, b]) => Some(a.div_ceil(*b)),
            ("pow2_up", [a]) => a.checked_next_power_of_two(),
            _ => return Err(self.wrong("there is no such function of so many arguments, before this")),
        };
        value.ok_or_else(|| self.range())
    }

    fn arguments(&mut self) -> Result<Vec<u64>, ExpressionError> {
        self.skip();
        let mut values = vec![self.sum()?];
        while self.peek() == Some(',') {
            self.skip();
            values.push(self.sum()?);
        }
        self.expect(')', "\")\" or \",\" was expected")?;
        Ok(values)
    }

    fn peek(&mut self) -> Option<char> {
        self.rest = self.rest.trim_start();
        self.rest.chars().next()
    }

    /// Leaves the one ASCII character that [`Reader::peek`] saw.
    fn skip(&mut self) {
        self.rest = &self.rest[1..];
    }

    fn expect(&mut self, wanted: char, what: &'static str) -> Result<(), ExpressionError> {
        if self.peek() != Some(wanted) {
            return Err(self.wrong(what));
        }
        self.skip();
        Ok(())
    }

    fn take_while(&mut self, belongs: impl Fn(char) -> bool) -> &'a str {
        let end = self.rest.find(|c| !belongs(c)).unwrap_or(self.rest.len());
        let (taken, rest) = self.rest.split_at(end);
        self.rest = rest;
        taken
    }

    fn wrong(&self, what: &'static str) -> ExpressionError {
        ExpressionError::Syntax { text: self.text.to_owned(), what, rest: self.rest.to_owned() }
    }

    fn range(&self) -> ExpressionError {
        ExpressionError::Range(self.text.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str) -> Result<u64, ExpressionError> {
        evaluate(text, &Target { connections: 1_000_000, cores: 8, memory: 32 << 30, ..Target::default() })
    }

    #[test]
    fn products_bind_closer_than_sums_and_both_go_from_left_to_right() {
        assert_eq!(value("2 + 3 * 4 - 6 / 2 / 3"), Ok(13));
        assert_eq!(value(" (2+3) * (4-1) "), Ok(15));
        assert_eq!(value("64Ki + 8Mi + 1Gi"), Ok(65_536 + 8_388_608 + 1_073_741_824));
    }

    #[test]
    fn variables_are_the_hosts_and_functions_nest() {
        assert_eq!(value("div_up(connections, cores) * 11 / 10 + 256"), Ok(137_756));
        assert_eq!(value("max(1, min(connections, 5, 9), 3)"), Ok(5));
        assert_eq!(value("pow2_up(connections + 1)"), Ok(1 << 20));
        assert_eq!(value("memory / page"), Ok((32 << 30) / 4096));
    }

    #[test]
    fn what_cannot_be_read_is_told_with_the_place() {
        for (text, rest) in [("", ""), ("1 +", ""), ("1 2", "2"), ("(1", ""), ("1Kb", ""), ("a_b", ""), ("min()", ")")]
        {
            match value(text) {
                Err(ExpressionError::Syntax { rest: told, .. }) => assert_eq!(told, rest, "{text}"),
                other => panic!("{text}: {other:?}"),
            }
        }
    }

    #[test]
    fn a_value_below_zero_too_large_or_divided_by_zero_is_an_error_not_a_panic() {
        for text in
            ["1 - 2", "1 / 0", "div_up(1, 0)", "99999999999999999999", "memory * memory", "pow2_up(memory*memory)"]
        {
            assert_eq!(value(text), Err(ExpressionError::Range(text.to_owned())), "{text}");
        }
    }
}
