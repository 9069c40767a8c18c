//! Templates against a naive renderer, and what is refused.

use proptest::prelude::*;

use super::*;

fn render(place: Place, text: &str, values: &Values<'_>) -> String {
    let template = Template::parse(place, text).unwrap_or_else(|error| panic!("{error}"));
    let mut output = Vec::new();
    template.render(values, &mut fastrand::Rng::with_seed(1), &mut output);
    String::from_utf8(output).unwrap()
}

const VALUES: Values<'static> = Values {
    client_id: "c-7",
    user: "anna",
    group: "bulbs",
    index: 7,
    topic: 3,
    count: 10,
    stamp: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 0xfe, 0xff],
    unix_ms: 1_700_000_000_123,
};

#[test]
fn every_variable_stands_for_its_value() {
    let text = "{\"stamp\":\"%s\",\"x\":\"%c %u %i %g %t %T 100%%\"}";
    let expected = "{\"stamp\":\"000102030405060708090a0b0c0dfeff\",\"x\":\"c-7 anna 7 bulbs 3 1700000000123 100%\"}";
    assert_eq!(render(Place::Payload, text, &VALUES), expected);
}

#[test]
fn expressions_have_the_usual_precedence_and_round_down() {
    for (text, expected) in [
        ("%{i}", "7"),
        ("%{1+2*3}", "7"),
        ("%{(1+2)*3}", "9"),
        ("%{10-3-2}", "5"),
        ("%{ i % 4 }", "3"),
        ("%{i/2}", "3"),
        ("%{-i/2}", "-4"),
        ("%{-(i) % 4}", "1"),
        ("%{n - i - 1}/%{i % 3 * 2}", "2/2"),
        ("%{i / (i - 7)}", "0"),
        ("a%{i:x|y|z}b", "ayb"),
        ("%{-1:x|y|z}", "z"),
        ("%{i:}", ""),
    ] {
        assert_eq!(render(Place::Filter, text, &VALUES), expected, "{text}");
    }
}

#[test]
fn random_numbers_stay_in_their_range_and_have_its_decimals() {
    let mut random = fastrand::Rng::with_seed(7);
    let template = Template::parse(Place::WillPayload, "%{random(-1,1)} %{random(-0.5,0.25)} %{random(0,1):no|yes}");
    let (template, mut seen) = (template.unwrap(), std::collections::BTreeSet::new());
    for _ in 0..2000 {
        let mut output = Vec::new();
        template.render(&VALUES, &mut random, &mut output);
        let text = String::from_utf8(output).unwrap();
        let parts: Vec<&str> = text.split(' ').collect();
        assert!(["-1", "0", "1"].contains(&parts[0]), "{text}");
        let (number, digits): (f64, _) = (parts[1].parse().unwrap(), parts[1].split_once('.').unwrap().1);
        assert!((-0.5..=0.25).contains(&number) && digits.len() == 2, "{text}");
        assert!(["no", "yes"].contains(&parts[2]), "{text}");
        seen.extend(parts.iter().map(|part| part.to_string()));
    }
    for end in ["-1", "1", "-0.50", "0.25", "no", "yes"] {
        assert!(seen.contains(end), "{end} never came");
    }
}

#[test]
fn the_same_seed_gives_the_same_text() {
    let text = "%{random(0,1000000)} %{random(0.0,9999.9)}";
    assert_eq!(render(Place::WillPayload, text, &VALUES), render(Place::WillPayload, text, &VALUES));
}

#[test]
fn what_is_refused_is_named_with_its_column() {
    for (place, text, column, what) in [
        (Place::Topic, "a/%x", 3, "unknown variable '%x'"),
        (Place::Topic, "ä/%", 3, "a lone '%'"),
        (Place::Topic, "%{i", 4, "the end"),
        (Place::Topic, "%{i:a|b", 8, "the end"),
        (Place::Topic, "%{}", 3, "'}'"),
        (Place::Topic, "%{i +}", 6, "'}'"),
        (Place::Topic, "%{(i}", 5, "'}'"),
        (Place::Topic, "%{i i}", 5, "'i'"),
        (Place::Topic, "%{pairs}", 3, "unknown name 'pairs'"),
        (Place::Topic, "%{i / 0}", 5, "a division by zero"),
        (Place::Topic, "%{i % (2 - 2)}", 5, "a division by zero"),
        (Place::Topic, "%{99999999999999999999}", 3, "too large"),
        (Place::Topic, "x/%T", 3, "the same each time"),
        (Place::Topic, "x/%{random(0,1)}", 5, "the same each time"),
        (Place::Topic, "x/%{random(0.5,1)}", 5, "the same each time"),
        (Place::Topic, "x/%s", 3, "only a payload has a stamp"),
        (Place::Filter, "x/%t", 3, "only a publication has topic numbers"),
        (Place::Filter, "x/%{t}", 5, "only a publication has topic numbers"),
        (Place::ClientId, "%c", 1, "before anything else"),
        (Place::ClientId, "%u", 1, "before anything else"),
        (Place::User, "%u", 1, "can't hold itself"),
        (Place::Payload, "hello", 1, "no stamp"),
        (Place::Payload, "{\"stamp\":\"%s\",\"again\":\"%s\"}", 24, "one only"),
        (Place::WillPayload, "%{random(3,1)}", 9, "no range"),
        (Place::WillPayload, "%{random(3.0,1)}", 3, "no range"),
        (Place::WillPayload, "%{random(0.0,x)}", 3, "no range"),
        (Place::WillPayload, "%{random(0.0,0.0123456789)}", 3, "no range"),
        (Place::WillPayload, "%{1 + random(0.0,1.0)}", 15, "'.'"),
    ] {
        let error = Template::parse(place, text).expect_err(text);
        assert_eq!((error.column, error.template.as_str()), (column, text), "{error}");
        assert!(error.what.contains(what) && !error.remedy.is_empty(), "{text}: {error}");
    }
    let deep = format!("%{{{}i{}}}", "(".repeat(100), ")".repeat(100));
    assert!(Template::parse(Place::Topic, &deep).unwrap_err().what.contains("too many"));
}

struct Two;

impl Parameters for Two {
    fn number(&self, name: &str) -> Option<i64> {
        [("pairs", 100), ("offset", -2)].into_iter().find(|(known, _)| *known == name).map(|(_, number)| number)
    }

    fn names(&self) -> Vec<String> {
        vec!["pairs".into(), "offset".into()]
    }
}

#[test]
fn parameters_are_written_out_in_expressions_and_nowhere_else() {
    let resolved = resolve("pairs %%{pairs} %{i % pairs}/%{i-offset:pairs|b} %{random(0,3)}%i", &Two).unwrap();
    assert_eq!(resolved, "pairs %%{pairs} %{i % 100}/%{i-(-2):pairs|b} %{random(0,3)}%i");
    let error = resolve("x/%{i % pears}", &Two).unwrap_err();
    assert_eq!((error.column, error.what.as_str()), (9, "unknown name 'pears'"));
    assert!(error.remedy.contains("pairs"), "{error}");
}

#[test]
fn a_value_of_a_document_may_be_arithmetic_of_parameters() {
    assert_eq!(evaluate("pairs * 2 + offset", &Two), Ok(198));
    for wrong in ["pears", "pairs *", "pairs 2", "i", "random(0,1)"] {
        assert!(evaluate(wrong, &Two).is_err(), "{wrong}");
    }
}

#[test]
fn a_template_knows_what_it_depends_on() {
    let template = Template::parse(Place::Topic, "a/%{i / 2}/%{t:x|y}/%c").unwrap();
    for variable in [Variable::Index, Variable::Topic, Variable::ClientId] {
        assert!(template.depends_on(variable), "{variable:?}");
    }
    for variable in [Variable::User, Variable::Group, Variable::Time, Variable::Random, Variable::Stamp] {
        assert!(!template.depends_on(variable), "{variable:?}");
    }
}

#[test]
fn a_stamp_reads_back_and_anything_else_does_not() {
    let mut digits = Vec::new();
    push_stamp(&VALUES.stamp, &mut digits);
    assert_eq!(digits.len(), STAMP_DIGITS);
    assert_eq!(read_stamp(&digits), Some(VALUES.stamp));
    assert_eq!(read_stamp(&digits[1..]), None);
    digits[31] = b'g';
    assert_eq!(read_stamp(&digits), None);
}

/// An expression as the naive renderer sees it: written with all its parentheses, valued on wide integers.
#[derive(Clone, Debug)]
enum Naive {
    Number(i64),
    Name(&'static str),
    Of(Box<Naive>, char, Box<Naive>),
}

impl Naive {
    fn text(&self) -> String {
        match self {
            Self::Number(number) => number.to_string(),
            Self::Name(name) => (*name).to_owned(),
            Self::Of(left, operator, right) => format!("({} {operator}{})", left.text(), right.text()),
        }
    }

    fn value(&self, values: &Values<'_>) -> i64 {
        match self {
            Self::Number(number) => *number,
            Self::Name("i") => i64::from(values.index),
            Self::Name("t") => i64::from(values.topic),
            Self::Name(_) => i64::from(values.count),
            Self::Of(left, operator, right) => {
                let (left, right) = (i128::from(left.value(values)), i128::from(right.value(values)));
                let floor = |left: i128, right: i128| (left - left.rem_euclid(right)) / right;
                let wide = match operator {
                    '+' => left + right,
                    '-' => left - right,
                    '*' => left * right,
                    _ if right == 0 => 0,
                    '/' => floor(left, right),
                    _ => left.rem_euclid(right),
                };
                wide as i64
            }
        }
    }
}

/// A piece of a template with its text and what it should become.
#[derive(Clone, Debug)]
enum Piece {
    Text(String),
    PerCent,
    Variable(char),
    Number(Naive),
    Word(Naive, Vec<String>),
}

impl Piece {
    fn text(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::PerCent => "%%".to_owned(),
            Self::Variable(name) => format!("%{name}"),
            Self::Number(expression) => format!("%{{{}}}", expression.text()),
            Self::Word(expression, words) => format!("%{{{}:{}}}", expression.text(), words.join("|")),
        }
    }

    fn rendered(&self, values: &Values<'_>) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::PerCent => "%".to_owned(),
            Self::Variable('c') => values.client_id.to_owned(),
            Self::Variable('u') => values.user.to_owned(),
            Self::Variable('g') => values.group.to_owned(),
            Self::Variable('i') => values.index.to_string(),
            Self::Variable(_) => values.topic.to_string(),
            Self::Number(expression) => expression.value(values).to_string(),
            Self::Word(expression, words) => {
                words[expression.value(values).rem_euclid(words.len() as i64) as usize].clone()
            }
        }
    }
}

fn naive() -> impl Strategy<Value = Naive> {
    let leaf = prop_oneof![
        (1..i64::MAX).prop_map(Naive::Number),
        (1..100_i64).prop_map(Naive::Number),
        prop::sample::select(vec!["i", "t", "n"]).prop_map(Naive::Name),
    ];
    leaf.prop_recursive(4, 24, 2, |inner| {
        let operator = prop::sample::select(vec!['+', '-', '*', '/', '%']);
        let of = |(left, operator, right)| Naive::Of(Box::new(left), operator, Box::new(right));
        (inner.clone(), operator, inner).prop_map(of)
    })
}

fn piece() -> impl Strategy<Value = Piece> {
    prop_oneof![
        "[a-z/ü+#{}|: ]{1,6}".prop_map(Piece::Text),
        Just(Piece::PerCent),
        prop::sample::select(vec!['c', 'u', 'g', 'i', 't']).prop_map(Piece::Variable),
        naive().prop_map(Piece::Number),
        (naive(), prop::collection::vec("[a-zä:{ ]{0,4}", 1..5)).prop_map(|(number, words)| Piece::Word(number, words)),
    ]
}

proptest! {
    #[test]
    fn renders_as_the_naive_renderer_does(
        pieces in prop::collection::vec(piece(), 0..8),
        index: u32,
        topic in 0..1000_u32,
        count in 1..u32::MAX,
    ) {
        let values = Values { index, topic, count, ..VALUES };
        let text: String = pieces.iter().map(Piece::text).collect();
        match Template::parse(Place::Topic, &text) {
            Ok(template) => {
                let mut output = Vec::new();
                template.render(&values, &mut fastrand::Rng::with_seed(0), &mut output);
                let expected: String = pieces.iter().map(|piece| piece.rendered(&values)).collect();
                prop_assert_eq!(String::from_utf8(output).unwrap(), expected, "{}", text);
            }
            Err(error) => prop_assert_eq!(error.what, "a division by zero"),
        }
    }

    #[test]
    fn any_text_is_parsed_or_refused_with_a_column_inside_it(text in "[%{}():|.,a-z0-9 +*/-]{0,30}") {
        if let Err(error) = Template::parse(Place::Topic, &text) {
            prop_assert!((1..=text.chars().count() + 1).contains(&error.column));
        }
    }
}
