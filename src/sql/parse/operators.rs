//! Operator names, as sqlparser's tokens and tree have them.

use sqlparser::ast::{BinaryOperator, UnaryOperator};
use sqlparser::tokenizer::Token;

macro_rules! tokens {
    ($($text:literal => $token:ident $(, $binary:ident)?;)*) => {
        /// The token for an operator's text.
        pub(crate) fn token(text: &str) -> Token {
            match text {
                $($text => Token::$token,)*
                "!=" => Token::Neq,
                other => Token::CustomBinaryOperator(other.to_owned()),
            }
        }

        /// The operator's text, if the token is one.
        pub(crate) fn text(token: &Token) -> Option<&str> {
            match token {
                $(Token::$token => Some($text),)*
                Token::CustomBinaryOperator(text) => Some(text),
                _ => None,
            }
        }

        /// The tree's operator for a text.
        pub(crate) fn binary(text: &str) -> BinaryOperator {
            match text {
                $($($text => BinaryOperator::$binary,)?)*
                other => BinaryOperator::Custom(other.to_owned()),
            }
        }
    };
}

tokens! {
    "+" => Plus, Plus;
    "-" => Minus, Minus;
    "*" => Mul, Multiply;
    "/" => Div, Divide;
    "%" => Mod, Modulo;
    "^" => Caret, PGExp;
    "=" => Eq, Eq;
    "<>" => Neq, NotEq;
    "<" => Lt, Lt;
    ">" => Gt, Gt;
    "<=" => LtEq, LtEq;
    ">=" => GtEq, GtEq;
    "||" => StringConcat, StringConcat;
    "&" => Ampersand, BitwiseAnd;
    "|" => Pipe, BitwiseOr;
    "#" => Sharp, PGBitwiseXor;
    "~" => Tilde, PGRegexMatch;
    "~*" => TildeAsterisk, PGRegexIMatch;
    "!~" => ExclamationMarkTilde, PGRegexNotMatch;
    "!~*" => ExclamationMarkTildeAsterisk, PGRegexNotIMatch;
    "~~" => DoubleTilde, PGLikeMatch;
    "~~*" => DoubleTildeAsterisk, PGILikeMatch;
    "!~~" => ExclamationMarkDoubleTilde, PGNotLikeMatch;
    "!~~*" => ExclamationMarkDoubleTildeAsterisk, PGNotILikeMatch;
    "<<" => ShiftLeft, PGBitwiseShiftLeft;
    ">>" => ShiftRight, PGBitwiseShiftRight;
    "&&" => Overlap, PGOverlap;
    "->" => Arrow, Arrow;
    "->>" => LongArrow, LongArrow;
    "#>" => HashArrow, HashArrow;
    "#>>" => HashLongArrow, HashLongArrow;
    "@>" => AtArrow, AtArrow;
    "<@" => ArrowAt, ArrowAt;
    "#-" => HashMinus, HashMinus;
    "@?" => AtQuestion, AtQuestion;
    "@@" => AtAt, AtAt;
    "?" => Question, Question;
    "?&" => QuestionAnd, QuestionAnd;
    "?|" => QuestionPipe, QuestionPipe;
    "^@" => CaretAt, PGStartsWith;
    "!" => ExclamationMark;
    "!!" => DoubleExclamationMark;
    "@" => AtSign;
    "|/" => PGSquareRoot;
    "||/" => PGCubeRoot;
}

/// The name of a binary operator of the tree, and its schema when it was written with one.
pub fn binary_name(op: &BinaryOperator) -> (Option<String>, String) {
    match op {
        BinaryOperator::Custom(name) => (None, name.clone()),
        BinaryOperator::PGCustomBinaryOperator(parts) => match parts.as_slice() {
            [schema @ .., name] => (schema.last().cloned(), name.clone()),
            [] => (None, String::new()),
        },
        other => (None, other.to_string()),
    }
}

/// The tree's prefix operator for a text.
pub(crate) fn unary(text: &str) -> Option<UnaryOperator> {
    Some(match text {
        "+" => UnaryOperator::Plus,
        "-" => UnaryOperator::Minus,
        "~" => UnaryOperator::BitwiseNot,
        "@" => UnaryOperator::PGAbs,
        "|/" => UnaryOperator::PGSquareRoot,
        "||/" => UnaryOperator::PGCubeRoot,
        "!!" => UnaryOperator::PGPrefixFactorial,
        "!" => UnaryOperator::BangNot,
        "#" => UnaryOperator::Hash,
        "@@" => UnaryOperator::DoubleAt,
        "@-@" => UnaryOperator::AtDashAt,
        "?-" => UnaryOperator::QuestionDash,
        "?|" => UnaryOperator::QuestionPipe,
        _ => return None,
    })
}
