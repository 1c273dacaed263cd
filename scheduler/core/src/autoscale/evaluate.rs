//! Evaluates formulas that have been checked.

use std::collections::BTreeMap;

use super::ast::{Binary, Expression, Kind, Method, Statement, Variable};
use super::error::{Failed, Place, RunError, RunErrorCode};
use super::functions::Function;
use super::metrics::{History, Metric, SAMPLE_PERIOD_S, Window};
use super::outcome::{Deallocation, Outcome, Targets};
use super::value::{Instant, Interval, Value, mismatch, truth};
use super::{Inputs, WORK_MAX};

/// Most nodes of a target.
const NODES_MAX: f64 = 1e9;

/// Evaluates statements until their end, or until `stop()`.
pub(super) fn evaluate(statements: &[Statement], inputs: &Inputs<'_>) -> Outcome {
    let mut run = Run { inputs, variables: BTreeMap::new(), chance: inputs.seed, work: 0 };
    let ended = run.statements(statements);
    let targets = ended.and_then(|()| run.targets());
    Outcome { targets, variables: run.told(statements) }
}

/// Why an expression has no value.
enum Halt {
    /// The formula said so.
    Stop,
    Error(RunError),
}

struct Run<'a> {
    inputs: &'a Inputs<'a>,
    /// What was assigned, and where last.
    variables: BTreeMap<Variable, (Value, Place)>,
    /// The state of the random numbers.
    chance: u64,
    work: usize,
}

impl Run<'_> {
    fn statements(&mut self, statements: &[Statement]) -> Result<(), RunError> {
        for statement in statements {
            match self.value(&statement.expression) {
                Ok(value) => {
                    if let Some((variable, _)) = &statement.target {
                        self.variables.insert(variable.clone(), (value, statement.expression.place));
                    }
                }
                Err(Halt::Stop) => break,
                Err(Halt::Error(error)) => return Err(error),
            }
        }
        Ok(())
    }

    fn value(&mut self, expression: &Expression) -> Result<Value, Halt> {
        let place = expression.place;
        let failed = |failed: Failed| Halt::Error(failed.at(place));
        let value = match &expression.kind {
            Kind::Constant(value) => value.clone(),
            Kind::Variable(variable) => self.variable(variable).ok_or_else(|| failed(mismatch()))?,
            Kind::Metric(metric) => {
                Value::Number(self.history(*metric).map_or(0.0, |history| history.current))
            }
            Kind::Chain(first, rest) => self.chain(first, rest)?,
            Kind::Unary(sign, of) => self.value(of)?.unary(*sign).map_err(failed)?,
            Kind::Choice(parts) => {
                let [condition, yes, no] = &**parts;
                let chosen = if self.value(condition)?.is_true().map_err(failed)? { yes } else { no };
                self.value(chosen)?
            }
            Kind::Call(function, arguments) => self.call(*function, arguments, place)?,
            Kind::Member(of, member) => match self.value(of)? {
                Value::Instant(instant) => Value::Number(instant.member(*member)),
                _ => return Err(failed(mismatch())),
            },
            Kind::Method(metric, method, arguments) => {
                let arguments = self.all(arguments)?;
                self.method(*metric, *method, &arguments).map_err(failed)?
            }
        };
        self.work(&value, place)?;
        Ok(value)
    }

    /// Counts what this value has cost.
    fn work(&mut self, value: &Value, place: Place) -> Result<(), Halt> {
        self.work += 1 + value.len();
        if self.work <= WORK_MAX {
            return Ok(());
        }
        let what =
            format!("the evaluation takes more than {WORK_MAX} steps: look at fewer samples, or less often");
        Err(Halt::Error(Failed::new(RunErrorCode::EvaluationTooLong, what).at(place)))
    }

    fn chain(&mut self, first: &Expression, rest: &[(Binary, Place, Expression)]) -> Result<Value, Halt> {
        let mut before = self.value(first)?;
        for (sign, place, next) in rest {
            let failed = |failed: Failed| Halt::Error(failed.at(*place));
            // What does not matter any more is not evaluated.
            let settled = match sign {
                Binary::And => !before.is_true().map_err(failed)?,
                Binary::Or => before.is_true().map_err(failed)?,
                _ => false,
            };
            before = if settled {
                truth(*sign == Binary::Or)
            } else {
                let after = self.value(next)?;
                before.binary(*sign, &after).map_err(failed)?
            };
            self.work(&before, *place)?;
        }
        Ok(before)
    }

    fn all(&mut self, arguments: &[Expression]) -> Result<Vec<Value>, Halt> {
        arguments.iter().map(|argument| self.value(argument)).collect()
    }

    fn call(&mut self, function: Function, arguments: &[Expression], place: Place) -> Result<Value, Halt> {
        let arguments = self.all(arguments)?;
        let failed = |failed: Failed| Halt::Error(failed.at(place));
        match (function, &arguments[..]) {
            (Function::Stop, _) => Err(Halt::Stop),
            (Function::Rand, _) => Ok(Value::Number(self.random())),
            (Function::Time, [Value::Text(text)]) => Instant::parse(text).map(Value::Instant).map_err(failed),
            (Function::Time, _) => Ok(Value::Instant(Instant::from_timestamp(self.inputs.now))),
            (_, arguments) => function.call(arguments).map_err(failed),
        }
    }

    /// The next random number, from 0 to below 1: splitmix64 (Steele, Lea and Flood, 2014), of which 53 bits count.
    fn random(&mut self) -> f64 {
        self.chance = self.chance.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.chance;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        #[expect(clippy::cast_precision_loss, reason = "53 bits fit")]
        let number = (z >> 11) as f64;
        number / 9_007_199_254_740_992.0
    }

    fn history(&self, metric: Metric) -> Option<&History> {
        self.inputs.metrics.get(&metric)
    }

    fn method(&self, metric: Metric, method: Method, arguments: &[Value]) -> Result<Value, Failed> {
        let none = History::default();
        let history = self.history(metric).unwrap_or(&none);
        match method {
            Method::GetSample => self.samples(metric, history, arguments),
            Method::GetSamplePercent => Ok(Value::Number(self.window(arguments)?.percent(history))),
            Method::GetSamplePeriod => Ok(Value::Interval(Interval::seconds(SAMPLE_PERIOD_S))),
            #[expect(clippy::cast_precision_loss, reason = "numbers of samples are small")]
            Method::Count => Ok(Value::Number(history.samples.len() as f64)),
            Method::HistoryBeginTime => {
                let begin = history.samples.first().map_or(self.inputs.now, |sample| sample.at);
                Ok(Value::Instant(Instant::from_timestamp(begin)))
            }
        }
    }

    fn samples(&self, metric: Metric, history: &History, arguments: &[Value]) -> Result<Value, Failed> {
        if let [Value::Number(count)] = arguments {
            if count.is_nan() || *count < 0.0 {
                let what = format!("a number of samples is 0 or more, and not {count}");
                return Err(Failed::new(RunErrorCode::InvalidArgument, what));
            }
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "larger ones mean all of them"
            )]
            let skip = history.samples.len().saturating_sub(*count as usize);
            let last = history.samples.iter().skip(skip);
            return Ok(Value::Vector(last.map(|sample| sample.value).collect()));
        }
        let (moments, wanted) = match arguments {
            [moments @ .., Value::Number(percent)] => (moments, *percent),
            moments => (moments, 0.0),
        };
        let window = self.window(moments)?;
        let percent = window.percent(history);
        if percent < wanted {
            let name = metric.name();
            let what =
                format!("${name} has {percent:.0} % of the samples of this time, and {wanted} % are wanted");
            return Err(Failed::new(RunErrorCode::InsufficientSampleData, what));
        }
        Ok(Value::Vector(window.of(history).iter().map(|sample| sample.value).collect()))
    }

    /// The time between two instants, or from one until now. An interval is that long ago.
    fn window(&self, moments: &[Value]) -> Result<Window, Failed> {
        let now = Instant::from_timestamp(self.inputs.now);
        let instant = |moment: &Value| match moment {
            Value::Instant(instant) => Ok(*instant),
            Value::Interval(ago) => now.minus(*ago),
            _ => Err(mismatch()),
        };
        match moments {
            [from] => Ok(Window::between(instant(from)?, now)),
            [from, to] => Ok(Window::between(instant(from)?, instant(to)?)),
            _ => Err(mismatch()),
        }
    }

    /// A variable's value: what was assigned to it last, by the whole name rather than by the other one; before that, what
    /// the pool has.
    fn variable(&self, variable: &Variable) -> Option<Value> {
        if let Some((value, _)) = self.assigned(variable) {
            return Some(value.clone());
        }
        match variable {
            Variable::Dedicated { .. } => Some(Value::Number(f64::from(self.inputs.dedicated))),
            Variable::LowPriority { .. } => Some(Value::Number(f64::from(self.inputs.low_priority))),
            Variable::Deallocation => Some(Value::Text(Deallocation::default().name().into())),
            Variable::Own(_) => None,
        }
    }

    fn assigned(&self, variable: &Variable) -> Option<&(Value, Place)> {
        let names = match variable {
            Variable::Dedicated { .. } => [false, true].map(|alias| Variable::Dedicated { alias }),
            Variable::LowPriority { .. } => [false, true].map(|alias| Variable::LowPriority { alias }),
            other => return self.variables.get(other),
        };
        names.iter().find_map(|name| self.variables.get(name))
    }

    fn targets(&self) -> Result<Targets, RunError> {
        let nodes = |variable: &Variable| {
            let Some((value, place)) = self.assigned(variable) else { return Ok(None) };
            to_nodes(value, &variable.name()).map(Some).map_err(|failed| failed.at(*place))
        };
        let deallocation = match self.variables.get(&Variable::Deallocation) {
            None => Deallocation::default(),
            Some((value, place)) => Deallocation::named(&value.to_string()).ok_or_else(|| {
                let names = Deallocation::ALL.map(Deallocation::name).join(", ");
                let what = format!("$NodeDeallocationOption is {value}, and can be {names}");
                Failed::new(RunErrorCode::InvalidNodeDeallocationOption, what).at(*place)
            })?,
        };
        Ok(Targets {
            dedicated: nodes(&Variable::Dedicated { alias: false })?,
            low_priority: nodes(&Variable::LowPriority { alias: false })?,
            deallocation,
        })
    }

    /// The values of the variables that the formula sets, and of the targets that it sets or looks at.
    fn told(&self, statements: &[Statement]) -> Vec<(String, Value)> {
        let services = [
            (
                Variable::Dedicated { alias: false },
                mentions(statements, |v| matches!(v, Variable::Dedicated { .. })),
            ),
            (
                Variable::LowPriority { alias: false },
                mentions(statements, |v| matches!(v, Variable::LowPriority { .. })),
            ),
            (Variable::Deallocation, true),
        ];
        let mut told: Vec<(String, Value)> = services
            .iter()
            .filter(|(_, told)| *told)
            .filter_map(|(variable, _)| Some((variable.name(), self.variable(variable)?)))
            .collect();
        for (variable, (value, _)) in &self.variables {
            if matches!(variable, Variable::Own(_)) {
                told.push((variable.name(), value.clone()));
            }
        }
        told
    }
}

/// A fraction of a node goes to the nearest number, a half up; fewer than none is none.
fn to_nodes(value: &Value, name: &str) -> Result<u32, Failed> {
    let number = value.number()?;
    if number.is_nan() || number > NODES_MAX {
        let what = format!("{name} is {value}, which is no number of nodes: it is from 0 to {NODES_MAX}");
        return Err(Failed::new(RunErrorCode::InvalidTarget, what));
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is in the range")]
    let nodes = number.max(0.0).round() as u32;
    Ok(nodes)
}

/// Whether any statement sets or looks at such a variable.
fn mentions(statements: &[Statement], wanted: fn(&Variable) -> bool) -> bool {
    fn within(expression: &Expression, wanted: fn(&Variable) -> bool) -> bool {
        match &expression.kind {
            Kind::Variable(variable) => wanted(variable),
            Kind::Constant(_) | Kind::Metric(_) => false,
            Kind::Chain(first, rest) => {
                within(first, wanted) || rest.iter().any(|(_, _, next)| within(next, wanted))
            }
            Kind::Unary(_, of) | Kind::Member(of, _) => within(of, wanted),
            Kind::Choice(parts) => parts.iter().any(|part| within(part, wanted)),
            Kind::Call(_, arguments) | Kind::Method(_, _, arguments) => {
                arguments.iter().any(|argument| within(argument, wanted))
            }
        }
    }
    statements.iter().any(|statement| {
        statement.target.as_ref().is_some_and(|(variable, _)| wanted(variable))
            || within(&statement.expression, wanted)
    })
}
