//! Reads formulas.
//!
//! ```text
//! formula    := [ statement ] { ";" [ statement ] }
//! statement  := [ name "=" ] expression
//! expression := or [ "?" expression ":" expression ]
//! or, and, equality, order, sum, product: operators from the left, each rank binding closer than the one before
//! unary      := ( "-" | "!" ) unary | postfix
//! postfix    := primary { "." name [ "(" arguments ")" ] }
//! primary    := number | text | name | name "(" arguments ")" | "(" expression ")"
//! ```

use super::ast::{Binary, Expression, Kind, Member, Method, Statement, Unary, Variable};
use super::error::{BadFormula, Place};
use super::functions::Function;
use super::lexer::{Token, tokens};
use super::outcome::Deallocation;
use super::value::{Interval, Value};
use super::{DEPTH_MAX, Metric, STATEMENTS_MAX};

/// Reads all statements.
pub(super) fn statements(text: &str) -> Result<Vec<Statement>, BadFormula> {
    let mut parser = Parser { tokens: tokens(text)?, next: 0, depth: 0 };
    let mut statements = Vec::new();
    loop {
        while parser.take(";") {}
        if *parser.token() == Token::End {
            break;
        }
        if statements.len() == STATEMENTS_MAX {
            return Err(BadFormula::too_long(
                parser.place(),
                format!("a formula has at most {STATEMENTS_MAX} statements"),
            ));
        }
        statements.push(parser.statement()?);
        if !matches!(parser.token(), Token::End | Token::Sign(";")) {
            return parser.unexpected("an operator or ';'");
        }
    }
    if statements.is_empty() {
        return Err(BadFormula::syntax(
            parser.place(),
            "there is no statement: write $TargetDedicatedNodes = 1",
        ));
    }
    Ok(statements)
}

struct Parser {
    /// They end with [`Token::End`].
    tokens: Vec<(Token, Place)>,
    next: usize,
    depth: usize,
}

impl Parser {
    fn token(&self) -> &Token {
        self.tokens.get(self.next).map_or(&Token::End, |(token, _)| token)
    }

    fn place(&self) -> Place {
        let last = self.tokens.len().saturating_sub(1);
        self.tokens.get(self.next.min(last)).map_or(Place { line: 1, column: 1 }, |(_, place)| *place)
    }

    fn take(&mut self, sign: &'static str) -> bool {
        let found = *self.token() == Token::Sign(sign);
        self.next += usize::from(found);
        found
    }

    fn expect(&mut self, sign: &'static str) -> Result<(), BadFormula> {
        if self.take(sign) { Ok(()) } else { self.unexpected(&format!("'{sign}'")) }
    }

    fn unexpected<T>(&self, wanted: &str) -> Result<T, BadFormula> {
        Err(BadFormula::syntax(
            self.place(),
            format!("here stands {wanted}, and not {}", self.token().told()),
        ))
    }

    fn statement(&mut self) -> Result<Statement, BadFormula> {
        let assigns = matches!(self.tokens.get(self.next + 1), Some((Token::Sign("="), _)));
        let place = self.place();
        let mut target = None;
        if let Token::Name(name) = self.token()
            && assigns
        {
            target = Some((variable_to_set(name, place)?, place));
            self.next += 2;
        }
        Ok(Statement { target, expression: self.expression()? })
    }

    fn deeper(&mut self) -> Result<(), BadFormula> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(BadFormula::syntax(
                self.place(),
                format!("at most {DEPTH_MAX} expressions are within each other"),
            ));
        }
        Ok(())
    }

    fn expression(&mut self) -> Result<Expression, BadFormula> {
        self.deeper()?;
        let place = self.place();
        let condition = self.chain(0)?;
        let expression = if self.take("?") {
            let yes = self.expression()?;
            self.expect(":")?;
            let no = self.expression()?;
            Expression { place, kind: Kind::Choice(Box::new([condition, yes, no])) }
        } else {
            condition
        };
        self.depth -= 1;
        Ok(expression)
    }

    /// Operators of this rank, and of those that bind closer.
    fn chain(&mut self, rank: usize) -> Result<Expression, BadFormula> {
        let Some(operators) = Binary::RANKS.get(rank) else { return self.unary() };
        let place = self.place();
        let first = self.chain(rank + 1)?;
        let mut rest = Vec::new();
        loop {
            let at = self.place();
            let Some(operator) = operators.iter().find(|each| self.take(each.sign())) else { break };
            rest.push((*operator, at, self.chain(rank + 1)?));
        }
        if rest.is_empty() {
            return Ok(first);
        }
        Ok(Expression { place, kind: Kind::Chain(Box::new(first), rest) })
    }

    fn unary(&mut self) -> Result<Expression, BadFormula> {
        let place = self.place();
        let sign = if self.take("-") {
            Unary::Minus
        } else if self.take("!") {
            Unary::Not
        } else {
            return self.postfix();
        };
        self.deeper()?;
        let kind = Kind::Unary(sign, Box::new(self.unary()?));
        self.depth -= 1;
        Ok(Expression { place, kind })
    }

    fn postfix(&mut self) -> Result<Expression, BadFormula> {
        let mut expression = self.primary()?;
        let mut members = 0;
        while self.take(".") {
            let place = self.place();
            let Token::Name(name) = self.token().clone() else {
                return self.unexpected("the name of a member or a method");
            };
            self.next += 1;
            members += 1;
            if members > DEPTH_MAX {
                return Err(BadFormula::syntax(
                    place,
                    format!("at most {DEPTH_MAX} members follow each other"),
                ));
            }
            let kind = if self.take("(") {
                method(&expression, &name, self.arguments()?, place)?
            } else {
                let known = Member::ALL.iter().find(|(each, _)| *each == name);
                let Some((_, member)) = known else { return Err(no_member(&name, place)) };
                Kind::Member(Box::new(expression), *member)
            };
            expression = Expression { place, kind };
        }
        Ok(expression)
    }

    fn primary(&mut self) -> Result<Expression, BadFormula> {
        let place = self.place();
        let token = self.token().clone();
        let kind = match token {
            Token::Number(number) => Kind::Constant(Value::Number(number)),
            Token::Text(text) => Kind::Constant(Value::Text(text.into())),
            Token::Sign("(") => {
                self.next += 1;
                let inner = self.expression()?;
                self.expect(")")?;
                return Ok(inner);
            }
            Token::Name(name) => {
                self.next += 1;
                if !self.take("(") {
                    return named(&name, place).map(|kind| Expression { place, kind });
                }
                let Some(function) = Function::named(&name) else {
                    return Err(BadFormula::syntax(
                        place,
                        format!("there is no function '{name}'; there are {}", Function::names()),
                    ));
                };
                let kind = Kind::Call(function, self.arguments()?);
                return Ok(Expression { place, kind });
            }
            _ => return self.unexpected("a number, a text, a name or '('"),
        };
        self.next += 1;
        Ok(Expression { place, kind })
    }

    /// What stands after an opening parenthesis, with the closing one.
    fn arguments(&mut self) -> Result<Vec<Expression>, BadFormula> {
        let mut arguments = Vec::new();
        if self.take(")") {
            return Ok(arguments);
        }
        loop {
            arguments.push(self.expression()?);
            if self.take(")") {
                return Ok(arguments);
            }
            self.expect(",")?;
        }
    }
}

fn no_member(name: &str, place: Place) -> BadFormula {
    if let Some((method, _)) = Method::ALL.iter().find(|(each, _)| *each == name) {
        return BadFormula::syntax(place, format!("{method} is a method: parentheses stand after it"));
    }
    let names = Member::ALL.map(|(name, _)| name).join(", ");
    BadFormula::syntax(place, format!("a timestamp has no member '{name}'; it has {names}"))
}

fn method(on: &Expression, name: &str, arguments: Vec<Expression>, place: Place) -> Result<Kind, BadFormula> {
    let Some((_, method)) = Method::ALL.iter().find(|(each, _)| *each == name) else {
        let names = Method::ALL.map(|(name, _)| name).join(", ");
        return Err(BadFormula::syntax(place, format!("there is no method '{name}'; metrics have {names}")));
    };
    match on.kind {
        Kind::Metric(metric) => Ok(Kind::Method(metric, *method, arguments)),
        _ => Err(BadFormula::syntax(place, format!("{name} is a method of metrics, such as $PendingTasks"))),
    }
}

/// A name that is looked at.
fn named(name: &str, place: Place) -> Result<Kind, BadFormula> {
    if let Some(variable) = service_variable(name) {
        return Ok(Kind::Variable(variable));
    }
    if let Some(metric) = metric(name) {
        return Ok(Kind::Metric(metric));
    }
    if let Some((_, interval)) = Interval::CONSTANTS.iter().find(|(each, _)| *each == name) {
        return Ok(Kind::Constant(Value::Interval(*interval)));
    }
    if name.starts_with("TimeInterval_") {
        let names = Interval::CONSTANTS.map(|(name, _)| name).join(", ");
        return Err(BadFormula::syntax(place, format!("there is no '{name}'; there are {names}")));
    }
    if Deallocation::named(name).is_some() {
        return Ok(Kind::Constant(Value::Text(name.into())));
    }
    Ok(Kind::Variable(Variable::Own(name.trim_start_matches('$').to_owned())))
}

/// A name that is set.
fn variable_to_set(name: &str, place: Place) -> Result<Variable, BadFormula> {
    if let Some(variable) = service_variable(name) {
        return Ok(variable);
    }
    let taken = metric(name).is_some()
        || Interval::CONSTANTS.iter().any(|(each, _)| *each == name)
        || Deallocation::named(name).is_some();
    if taken {
        return Err(BadFormula::syntax(place, format!("'{name}' cannot be set")));
    }
    Ok(Variable::Own(name.trim_start_matches('$').to_owned()))
}

fn metric(name: &str) -> Option<Metric> {
    let name = name.strip_prefix('$')?;
    Metric::ALL.iter().copied().find(|metric| metric.name() == name)
}

fn service_variable(name: &str) -> Option<Variable> {
    match name {
        "$TargetDedicatedNodes" => Some(Variable::Dedicated { alias: false }),
        "$TargetDedicated" => Some(Variable::Dedicated { alias: true }),
        "$TargetLowPriorityNodes" => Some(Variable::LowPriority { alias: false }),
        "$TargetLowPriority" => Some(Variable::LowPriority { alias: true }),
        "$NodeDeallocationOption" => Some(Variable::Deallocation),
        _ => None,
    }
}
