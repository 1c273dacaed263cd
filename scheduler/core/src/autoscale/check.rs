//! Finds what is wrong with a formula whatever the samples are: names that nothing was assigned to, and types.

use std::collections::BTreeMap;

use super::Metric;
use super::ast::{Expression, Kind, Method, Statement, Variable};
use super::error::{BadFormula, Place};
use super::functions::Function;
use super::value::{Instant, Type, Value};

/// Checks all statements in their order.
pub(super) fn check(statements: &[Statement]) -> Result<(), BadFormula> {
    let mut known = Types::default();
    for statement in statements {
        let found = known.of(&statement.expression)?;
        let Some((variable, place)) = &statement.target else { continue };
        let wanted = match variable {
            Variable::Dedicated { .. } | Variable::LowPriority { .. } => Type::Number,
            Variable::Deallocation => Type::Text,
            Variable::Own(_) if found == Type::Never => {
                return Err(BadFormula::syntax(*place, "stop() has no value"));
            }
            Variable::Own(name) => {
                known.0.insert(name.clone(), found);
                continue;
            }
        };
        if found != wanted {
            let hint = match (wanted, found) {
                (Type::Number, Type::Vector) => ": write avg(...), max(...) or val(..., 0)",
                (Type::Text, _) => ": write requeue, terminate, taskcompletion or retaineddata",
                _ => "",
            };
            let name = variable.name();
            return Err(BadFormula::syntax(
                statement.expression.place,
                format!("{name} is a {}, and this is a {}{hint}", wanted.name(), found.name()),
            ));
        }
    }
    Ok(())
}

/// The types of the user's variables so far.
#[derive(Default)]
struct Types(BTreeMap<String, Type>);

impl Types {
    fn of(&self, expression: &Expression) -> Result<Type, BadFormula> {
        let place = expression.place;
        match &expression.kind {
            Kind::Constant(value) => Ok(match value {
                Value::Number(_) => Type::Number,
                Value::Vector(_) => Type::Vector,
                Value::Text(_) => Type::Text,
                Value::Instant(_) => Type::Instant,
                Value::Interval(_) => Type::Interval,
            }),
            Kind::Variable(Variable::Own(name)) => {
                self.0.get(name).copied().ok_or_else(|| unknown(name, place))
            }
            Kind::Variable(Variable::Deallocation) => Ok(Type::Text),
            Kind::Variable(_) | Kind::Metric(_) => Ok(Type::Number),
            Kind::Chain(first, rest) => {
                let mut before = self.of(first)?;
                for (sign, at, next) in rest {
                    let after = self.of(next)?;
                    before = before.binary(*sign, after).ok_or_else(|| {
                        let sign = sign.sign();
                        BadFormula::syntax(
                            *at,
                            format!("there is no {} {sign} {}", before.name(), after.name()),
                        )
                    })?;
                }
                Ok(before)
            }
            Kind::Unary(sign, of) => {
                let of = self.of(of)?;
                of.unary(*sign).ok_or_else(|| {
                    BadFormula::syntax(place, format!("no such sign stands before a {}", of.name()))
                })
            }
            Kind::Choice(parts) => self.choice(parts),
            Kind::Call(function, arguments) => self.call(*function, arguments, place),
            Kind::Member(of, _) => match self.of(of)? {
                Type::Instant => Ok(Type::Number),
                other => Err(BadFormula::syntax(place, format!("a {} has no members", other.name()))),
            },
            Kind::Method(_, method, arguments) => self.method(*method, arguments, place),
        }
    }

    fn choice(&self, [condition, yes, no]: &[Expression; 3]) -> Result<Type, BadFormula> {
        let of = self.of(condition)?;
        if of != Type::Number {
            let what = format!("before '?' stands a double, and this is a {}", of.name());
            return Err(BadFormula::syntax(condition.place, what));
        }
        match (self.of(yes)?, self.of(no)?) {
            (a, b) if a == b => Ok(a),
            (Type::Never, other) | (other, Type::Never) => Ok(other),
            (a, b) => Err(BadFormula::syntax(
                no.place,
                format!("both sides of ':' are of one type; these are a {} and a {}", a.name(), b.name()),
            )),
        }
    }

    fn all(&self, arguments: &[Expression]) -> Result<Vec<Type>, BadFormula> {
        arguments.iter().map(|argument| self.of(argument)).collect()
    }

    fn call(&self, function: Function, arguments: &[Expression], place: Place) -> Result<Type, BadFormula> {
        let found = self.all(arguments)?;
        // A date that is written out is right or wrong at once.
        if function == Function::Time
            && let [Expression { kind: Kind::Constant(Value::Text(text)), place }] = arguments
        {
            Instant::parse(text).map_err(|wrong| BadFormula::syntax(*place, wrong.what))?;
        }
        function
            .check(&found)
            .map_err(|takes| BadFormula::syntax(place, format!("{} takes {takes}", function.name())))
    }

    fn method(&self, method: Method, arguments: &[Expression], place: Place) -> Result<Type, BadFormula> {
        let found = self.all(arguments)?;
        let moment = |of: &Type| matches!(of, Type::Instant | Type::Interval);
        let (takes, value) = match (method, &found[..]) {
            (Method::GetSample, [Type::Number]) => (None, Type::Vector),
            (Method::GetSample, [a] | [a, Type::Number]) if moment(a) => (None, Type::Vector),
            (Method::GetSample, [a, b] | [a, b, Type::Number]) if moment(a) && moment(b) => {
                (None, Type::Vector)
            }
            (Method::GetSample, _) => (
                Some(
                    "a number of samples; or one or two timestamps or timeintervals, and a number of per cent",
                ),
                Type::Never,
            ),
            (Method::GetSamplePercent, [a]) if moment(a) => (None, Type::Number),
            (Method::GetSamplePercent, [a, b]) if moment(a) && moment(b) => (None, Type::Number),
            (Method::GetSamplePercent, _) => (Some("one or two timestamps or timeintervals"), Type::Never),
            (Method::GetSamplePeriod, []) => (None, Type::Interval),
            (Method::Count, []) => (None, Type::Number),
            (Method::HistoryBeginTime, []) => (None, Type::Instant),
            _ => (Some("nothing"), Type::Never),
        };
        match takes {
            None => Ok(value),
            Some(takes) => Err(BadFormula::syntax(place, format!("{} takes {takes}", method.name()))),
        }
    }
}

fn unknown(name: &str, place: Place) -> BadFormula {
    let meant = Metric::ALL
        .iter()
        .map(|metric| metric.name())
        .chain(["TargetDedicatedNodes", "TargetLowPriorityNodes"]);
    let hint = meant.into_iter().find(|each| each.eq_ignore_ascii_case(name));
    let hint = hint.map_or_else(String::new, |each| format!("; write ${each}"));
    BadFormula::syntax(place, format!("nothing was assigned to '{name}' before{hint}"))
}
