//! Whole-number arithmetic in templates: `%{(i + t) % n}`.

use super::Variable;

/// A parsed expression of `+ - * / %`, parentheses, whole numbers, `i`, `t`, `n` and `random(low,high)`.
///
/// Every expression has a value: division rounds down and its remainder is never negative for a positive
/// divisor, dividing by zero gives 0, and what does not fit 64 bits wraps around.
#[derive(Clone, Debug, PartialEq)]
pub enum Expression {
    /// A number.
    Constant(i64),
    /// `i`
    Index,
    /// `t`
    Topic,
    /// `n`
    Count,
    /// A number from the first to the second, both included.
    Random(i64, i64),
    /// Two operands.
    Binary(Operator, Box<Expression>, Box<Expression>),
}

/// What is done with two operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    /// `+`
    Add,
    /// `-`
    Subtract,
    /// `*`
    Multiply,
    /// `/`
    Divide,
    /// `%`
    Remainder,
}

/// What the names in an expression stand for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Numbers {
    /// `i`: the client's number in its group.
    pub index: i64,
    /// `t`: the topic's number.
    pub topic: i64,
    /// `n`: how many clients the group has.
    pub count: i64,
}

impl Expression {
    /// Its value.
    pub fn value(&self, numbers: &Numbers, random: &mut fastrand::Rng) -> i64 {
        match self {
            Self::Constant(number) => *number,
            Self::Index => numbers.index,
            Self::Topic => numbers.topic,
            Self::Count => numbers.count,
            Self::Random(low, high) => random.i64(*low..=*high),
            Self::Binary(operator, left, right) => {
                operator.apply(left.value(numbers, random), right.value(numbers, random))
            }
        }
    }

    /// Whether its value depends on this.
    pub fn depends_on(&self, variable: Variable) -> bool {
        match self {
            Self::Index => variable == Variable::Index,
            Self::Topic => variable == Variable::Topic,
            Self::Random(..) => variable == Variable::Random,
            Self::Binary(_, left, right) => left.depends_on(variable) || right.depends_on(variable),
            Self::Constant(_) | Self::Count => false,
        }
    }

    /// Its value if it is the same in every rendering.
    pub fn constant(&self) -> Option<i64> {
        match self {
            Self::Constant(number) => Some(*number),
            Self::Binary(operator, left, right) => Some(operator.apply(left.constant()?, right.constant()?)),
            _ => None,
        }
    }
}

impl Operator {
    /// What comes out.
    pub fn apply(self, left: i64, right: i64) -> i64 {
        match self {
            Self::Add => left.wrapping_add(right),
            Self::Subtract => left.wrapping_sub(right),
            Self::Multiply => left.wrapping_mul(right),
            Self::Divide | Self::Remainder if right == 0 => 0,
            Self::Divide => left.wrapping_div_euclid(right),
            Self::Remainder => left.wrapping_rem_euclid(right),
        }
    }
}
