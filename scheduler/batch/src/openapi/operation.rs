//! What the service answers, one entry for each method of each path. The router is made of the same entries.

use crate::odata::List;

use super::schema::Kind;

/// A method of HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "they are HTTP's own")]
pub enum Method {
    Get,
    Head,
    Post,
    Put,
    Patch,
    Delete,
}

impl Method {
    /// As the document has it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Head => "head",
            Self::Post => "post",
            Self::Put => "put",
            Self::Patch => "patch",
            Self::Delete => "delete",
        }
    }
}

/// A parameter of a query: its name, what its values are, and what it does.
pub type Parameter = (&'static str, Kind, &'static str);

/// What a success brings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// Nothing but the status.
    Empty,
    /// An object of this schema.
    One(&'static str),
    /// A page of a list of these.
    Page(&'static str),
    /// An object whose `value` is a list of these; it has no pages.
    All(&'static str),
    /// The bytes of a file.
    Bytes,
    /// Events: a page of them as JSON, or a stream of server-sent events, as the client accepts.
    Events,
    /// This document.
    Document,
    /// There is no success: it is always refused with this status.
    Refused(u16),
}

/// One method of one path.
#[derive(Debug, Clone, Copy)]
pub struct Operation {
    /// The method.
    pub method: Method,
    /// The path, with the names of its variable parts in braces; `{*path}` is a file's, with its slashes encoded.
    pub path: &'static str,
    /// A name that no other operation has.
    pub name: &'static str,
    /// What it does, in a sentence.
    pub summary: &'static str,
    /// The list whose query it takes, if it takes one.
    pub list: Option<List>,
    /// More parameters of its query.
    pub parameters: &'static [Parameter],
    /// The schema of its body, if it has one.
    pub body: Option<&'static str>,
    /// The status of a success.
    pub success: u16,
    /// What a success brings.
    pub answer: Answer,
    /// Whether it takes conditional headers.
    pub conditional: bool,
}

impl Operation {
    const fn new(method: Method, path: &'static str, name: &'static str, summary: &'static str) -> Self {
        Self {
            method,
            path,
            name,
            summary,
            list: None,
            parameters: &[],
            body: None,
            success: 200,
            answer: Answer::Empty,
            conditional: false,
        }
    }

    /// A `GET`.
    #[must_use]
    pub const fn get(path: &'static str, name: &'static str, summary: &'static str) -> Self {
        Self::new(Method::Get, path, name, summary)
    }

    /// A `HEAD`.
    #[must_use]
    pub const fn head(path: &'static str, name: &'static str, summary: &'static str) -> Self {
        Self::new(Method::Head, path, name, summary)
    }

    /// A `POST`.
    #[must_use]
    pub const fn post(path: &'static str, name: &'static str, summary: &'static str) -> Self {
        Self::new(Method::Post, path, name, summary)
    }

    /// A `PUT`.
    #[must_use]
    pub const fn put(path: &'static str, name: &'static str, summary: &'static str) -> Self {
        Self::new(Method::Put, path, name, summary)
    }

    /// A `PATCH`.
    #[must_use]
    pub const fn patch(path: &'static str, name: &'static str, summary: &'static str) -> Self {
        Self::new(Method::Patch, path, name, summary)
    }

    /// A `DELETE`.
    #[must_use]
    pub const fn delete(path: &'static str, name: &'static str, summary: &'static str) -> Self {
        Self::new(Method::Delete, path, name, summary)
    }

    /// It answers with this.
    #[must_use]
    pub const fn gives(self, answer: Answer) -> Self {
        Self { answer, ..self }
    }

    /// It answers with a page of a list.
    #[must_use]
    pub const fn lists(self, list: List, of: &'static str) -> Self {
        Self { list: Some(list), answer: Answer::Page(of), ..self }
    }

    /// It answers with a thing of a list, which may be shortened as the list may.
    #[must_use]
    pub const fn shows(self, list: List, schema: &'static str) -> Self {
        Self { list: Some(list), answer: Answer::One(schema), ..self }
    }

    /// It takes a body.
    #[must_use]
    pub const fn takes(self, body: &'static str) -> Self {
        Self { body: Some(body), ..self }
    }

    /// A success has this status.
    #[must_use]
    pub const fn with_status(self, success: u16) -> Self {
        Self { success, ..self }
    }

    /// It takes conditional headers.
    #[must_use]
    pub const fn if_unchanged(self) -> Self {
        Self { conditional: true, ..self }
    }

    /// It takes more parameters.
    #[must_use]
    pub const fn asks(self, parameters: &'static [Parameter]) -> Self {
        Self { parameters, ..self }
    }

    /// The names of the variable parts of its path.
    pub fn path_parameters(&self) -> impl Iterator<Item = &'static str> {
        let parts = self.path.split('/');
        parts.filter_map(|part| Some(part.strip_prefix('{')?.strip_suffix('}')?.trim_start_matches('*')))
    }

    /// Its path as the document has it.
    #[must_use]
    pub fn template(&self) -> String {
        self.path.replace("{*", "{")
    }
}
