//! Integers above the signed 64-bit range: they survive from decode to encode, print as themselves, and calculate as floats.

use std::cmp::Ordering;

use mlua::{MetaMethod, UserData, UserDataMethods, Value};

type Calculate = fn(f64, f64) -> f64;

/// An integer from 2^63 to 2^64 - 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Large(pub(super) u64);

impl UserData for Large {
    fn add_methods<M: UserDataMethods<Self>>(methods: &mut M) {
        methods.add_meta_method(MetaMethod::ToString, |_, this, ()| Ok(this.0.to_string()));
        methods.add_meta_function(MetaMethod::Concat, |_, (left, right): (Value, Value)| {
            Ok(format!("{}{}", left.to_string()?, right.to_string()?))
        });
        let operations: [(MetaMethod, Calculate); 6] = [
            (MetaMethod::Add, |a, b| a + b),
            (MetaMethod::Sub, |a, b| a - b),
            (MetaMethod::Mul, |a, b| a * b),
            (MetaMethod::Div, |a, b| a / b),
            (MetaMethod::Mod, f64::rem_euclid),
            (MetaMethod::Pow, f64::powf),
        ];
        for (operator, calculate) in operations {
            methods.add_meta_function(operator, move |_, (left, right): (Value, Value)| {
                Ok(calculate(number(&left)?, number(&right)?))
            });
        }
        methods.add_meta_function(MetaMethod::Eq, |_, (left, right): (Value, Value)| {
            Ok(exact(&left) == exact(&right))
        });
        methods.add_meta_function(MetaMethod::Lt, |_, (left, right): (Value, Value)| {
            Ok(compare(&left, &right)? == Some(Ordering::Less))
        });
        methods.add_meta_function(MetaMethod::Le, |_, (left, right): (Value, Value)| {
            Ok(matches!(compare(&left, &right)?, Some(Ordering::Less | Ordering::Equal)))
        });
    }
}

/// The value as one, if it is one.
pub(super) fn exact(value: &Value) -> Option<Large> {
    value.as_userdata().and_then(|data| data.borrow::<Large>().ok().map(|large| *large))
}

fn compare(left: &Value, right: &Value) -> mlua::Result<Option<Ordering>> {
    match (exact(left), exact(right)) {
        (Some(left), Some(right)) => Ok(Some(left.0.cmp(&right.0))),
        _ => Ok(number(left)?.partial_cmp(&number(right)?)),
    }
}

fn number(value: &Value) -> mlua::Result<f64> {
    if let Some(large) = exact(value) {
        return Ok(large.0 as f64);
    }
    match value {
        Value::Integer(integer) => Ok(*integer as f64),
        Value::Number(number) => Ok(*number),
        other => Err(mlua::Error::RuntimeError(format!(
            "arithmetic on a number and {}",
            other.type_name()
        ))),
    }
}
