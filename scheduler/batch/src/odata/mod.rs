//! How lists are asked for: `$filter`, `$select`, `$expand`, `maxresults`, and the tokens by which a list goes on.
//!
//! The lists and what may be asked of each are in `lists`; a filter is read and checked once (`parse`) and then asked for each
//! row (`filter`), which costs as many looks at properties as it has terms, and fewer where the first ones decide.

mod filter;
mod lists;
mod page;
mod parse;
mod select;

pub use filter::{Comparison, Filter, Literal, Properties, Term, Value};
pub use lists::{List, Operators, Property};
pub use page::{ListQuery, RESULTS_MAX, SkipToken, next_link, page_body};
pub use select::Select;

#[cfg(test)]
mod tests;
