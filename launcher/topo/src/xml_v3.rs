//! The XML form of hwloc 3, written anew in that of hwloc 2, which is what libhwloc 2 reads.
//!
//! Both describe a tree of objects in the same way. Version 3 has the information about the whole machine beside the
//! tree instead of on its root, more attributes (`cache_inclusive`), and kinds of operating-system devices as sets. What
//! is beside the tree (distances, kinds of CPUs, memory attributes) and operating-system devices are left out, because
//! nothing here reads them.

use std::borrow::Cow;
use std::fmt::Write;

/// How deep elements may be nested: machines have about ten levels, and as many bridges.
const DEPTH_MAX: usize = 128;

/// What stands beside the tree of objects, and is left out.
const BESIDE: [&str; 7] =
    ["info", "cpukind", "distances2", "distances2hetero", "memattr", "support", "userdata"];

/// What an object may have in version 2, apart from other objects.
const IN_OBJECT: [&str; 3] = ["info", "page_type", "userdata"];

/// Objects that are left out with all that is below them.
const LEFT_OUT: [&str; 2] = ["OSDev", "Misc"];

/// Attributes of objects in version 2.
const ATTRIBUTES: [&str; 25] = [
    "type",
    "subtype",
    "name",
    "os_index",
    "gp_index",
    "cpuset",
    "complete_cpuset",
    "allowed_cpuset",
    "nodeset",
    "complete_nodeset",
    "allowed_nodeset",
    "local_memory",
    "cache_size",
    "cache_linesize",
    "cache_associativity",
    "cache_type",
    "depth",
    "kind",
    "subkind",
    "dont_merge",
    "bridge_type",
    "bridge_pci",
    "pci_busid",
    "pci_type",
    "pci_link_speed",
];

/// Why a text is not a topology of version 3.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {problem}")]
pub(crate) struct V3Error {
    line: usize,
    problem: Problem,
}

/// What is wrong with a text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
enum Problem {
    #[error("a tag, comment or declaration does not end")]
    Open,
    #[error("the document type declares entities of its own, which are not read")]
    Entities,
    #[error("there is text between the elements")]
    Text,
    #[error("an attribute is not written as name=\"value\"")]
    Attribute,
    #[error("<{name}> does not belong here")]
    Element { name: String },
    #[error("</{name}> ends an element that was not begun")]
    End { name: String },
    #[error("elements are nested more than {DEPTH_MAX} deep")]
    Depth,
    #[error("there is no whole topology")]
    Incomplete,
}

/// The text in the form of version 2, if it is in that of version 3; other texts stay as they are.
///
/// # Errors
///
/// [`V3Error`] if the text is said to be of version 3 and is not.
pub(crate) fn to_v2(text: &str) -> Result<Cow<'_, str>, V3Error> {
    if !is_v3(text) {
        return Ok(Cow::Borrowed(text));
    }
    let mut writer = Writer { out: String::with_capacity(text.len()), open: Vec::new(), is_whole: false };
    let mut reader = Reader { text, at: 0 };
    let line = |at: usize| text.as_bytes()[..at].iter().filter(|byte| **byte == b'\n').count() + 1;
    loop {
        let from = reader.at;
        let step = reader.next(writer.is_left_out()).and_then(|part| match part {
            Some(part) => writer.take(part).map(|()| true),
            None => Ok(false),
        });
        match step {
            Ok(true) => {}
            Ok(false) if writer.is_whole && writer.open.is_empty() => return Ok(Cow::Owned(writer.out)),
            Ok(false) => return Err(V3Error { line: line(from), problem: Problem::Incomplete }),
            Err(problem) => {
                let blanks = text[from..].len() - text[from..].trim_start().len();
                return Err(V3Error { line: line(from + blanks), problem });
            }
        }
    }
}

/// Whether the first element says that it is a topology of version 3.
fn is_v3(text: &str) -> bool {
    let mut reader = Reader { text, at: 0 };
    while let Ok(Some(part)) = reader.next(false) {
        match part {
            Part::Other => {}
            Part::Begin { name: "topology", attributes, .. } => {
                return attributes.iter().any(|(name, value)| *name == "version" && value.starts_with("3."));
            }
            _ => return false,
        }
    }
    false
}

/// A piece of XML.
#[derive(Debug, PartialEq, Eq)]
enum Part<'t> {
    /// The values are as they stand in the text, with their entities.
    Begin {
        name: &'t str,
        attributes: Vec<(&'t str, &'t str)>,
        is_empty: bool,
    },
    End {
        name: &'t str,
    },
    /// A declaration, a comment, or text in what is left out.
    Other,
}

struct Reader<'t> {
    text: &'t str,
    at: usize,
}

impl<'t> Reader<'t> {
    fn next(&mut self, may_have_text: bool) -> Result<Option<Part<'t>>, Problem> {
        let rest = &self.text[self.at..];
        let begin = rest.find('<').unwrap_or(rest.len());
        if !may_have_text && !rest[..begin].trim().is_empty() {
            return Err(Problem::Text);
        }
        self.at += begin;
        let rest = &rest[begin..];
        if rest.is_empty() {
            return Ok(None);
        }
        if let Some(comment) = rest.strip_prefix("<!--") {
            self.at += 4 + comment.find("-->").ok_or(Problem::Open)? + 3;
            return Ok(Some(Part::Other));
        }
        // No attribute of a topology holds a '>', which hwloc writes as an entity.
        let end = rest.find('>').ok_or(Problem::Open)?;
        let tag = &rest[1..end];
        if tag.starts_with('!') && tag.contains('[') {
            return Err(Problem::Entities);
        }
        self.at += end + 1;
        if tag.starts_with(['!', '?']) {
            return Ok(Some(Part::Other));
        }
        if let Some(name) = tag.strip_prefix('/') {
            return Ok(Some(Part::End { name: name.trim_end() }));
        }
        let is_empty = tag.ends_with('/');
        let tag = tag.strip_suffix('/').unwrap_or(tag);
        let (name, attributes) = tag.split_once(|c: char| c.is_ascii_whitespace()).unwrap_or((tag, ""));
        Ok(Some(Part::Begin { name, attributes: read_attributes(attributes)?, is_empty }))
    }
}

fn read_attributes(mut text: &str) -> Result<Vec<(&str, &str)>, Problem> {
    let mut attributes = Vec::new();
    loop {
        text = text.trim_start();
        if text.is_empty() {
            return Ok(attributes);
        }
        let (name, rest) = text.split_once('=').ok_or(Problem::Attribute)?;
        let (name, rest) = (name.trim_end(), rest.trim_start());
        let quote = rest.chars().next().filter(|c| matches!(c, '"' | '\'')).ok_or(Problem::Attribute)?;
        let (value, rest) = rest[1..].split_once(quote).ok_or(Problem::Attribute)?;
        let is_name =
            !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_:-".contains(&b));
        if !is_name || value.contains(['<', '"']) {
            return Err(Problem::Attribute);
        }
        attributes.push((name, value));
        text = rest;
    }
}

/// An element that was begun.
struct Element<'t> {
    name: &'t str,
    is_left_out: bool,
}

struct Writer<'t> {
    out: String,
    open: Vec<Element<'t>>,
    is_whole: bool,
}

impl<'t> Writer<'t> {
    fn is_left_out(&self) -> bool {
        self.open.last().is_some_and(|element| element.is_left_out)
    }

    fn take(&mut self, part: Part<'t>) -> Result<(), Problem> {
        match part {
            Part::Other => Ok(()),
            Part::Begin { name, attributes, is_empty } => {
                self.begin(name, &attributes)?;
                if is_empty { self.end(name) } else { Ok(()) }
            }
            Part::End { name } => self.end(name),
        }
    }

    fn begin(&mut self, name: &'t str, attributes: &[(&str, &str)]) -> Result<(), Problem> {
        if self.open.len() == DEPTH_MAX {
            return Err(Problem::Depth);
        }
        let parent = self.open.last().map(|element| element.name);
        let kind = attributes.iter().find(|(name, _)| *name == "type").map(|(_, value)| *value);
        let is_left_out = match (parent, name) {
            _ if self.is_left_out() => true,
            (None, "topology") if !self.is_whole => false,
            (Some("topology"), "object") => false,
            (Some("topology"), name) if BESIDE.contains(&name) => true,
            (Some("object"), "object") => kind.is_some_and(|kind| LEFT_OUT.contains(&kind)),
            (Some("object"), name) if IN_OBJECT.contains(&name) => name == "userdata",
            _ => return Err(Problem::Element { name: name.to_owned() }),
        };
        self.open.push(Element { name, is_left_out });
        if is_left_out {
            return Ok(());
        }
        if name == "topology" {
            self.out.push_str("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
            self.out.push_str("<!DOCTYPE topology SYSTEM \"hwloc2.dtd\">\n<topology version=\"2.0\">\n");
            return Ok(());
        }
        let _infallible = write!(self.out, "<{name}");
        for (attribute, value) in attributes {
            if name != "object" || ATTRIBUTES.contains(attribute) {
                let _infallible = write!(self.out, " {attribute}=\"{value}\"");
            }
        }
        self.out.push_str(">\n");
        Ok(())
    }

    fn end(&mut self, name: &'t str) -> Result<(), Problem> {
        let element = self.open.pop().filter(|element| element.name == name);
        let element = element.ok_or_else(|| Problem::End { name: name.to_owned() })?;
        if !element.is_left_out {
            let _infallible = writeln!(self.out, "</{name}>");
        }
        self.is_whole |= name == "topology" && !element.is_left_out;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: &str = r#"<?xml version="1.0"?>
<!DOCTYPE topology SYSTEM "hwloc2.dtd">
<!-- a machine -->
<topology version="3.0">
  <object type="Machine" cpuset='0x1' cache_inclusive="1">
    <info name="A" value="a &gt; b"/>
    <object type="OSDev" osdev_type="0x4"><info name="X" value="x"/></object>
    <object type="PU" os_index="0"/>
  </object>
  <cpukind cpuset="0x1"><info name="CoreType" value="IntelCore"/></cpukind>
  <distances2 type="NUMANode"><indexes length="2">0 </indexes></distances2>
</topology>
"#;

    #[test]
    fn the_tree_is_kept_and_what_is_beside_it_left_out() {
        let v2 = to_v2(SMALL).unwrap();
        let tree: Vec<&str> = v2.lines().skip(2).collect();
        assert_eq!(
            tree,
            [
                "<topology version=\"2.0\">",
                "<object type=\"Machine\" cpuset=\"0x1\">",
                "<info name=\"A\" value=\"a &gt; b\">",
                "</info>",
                "<object type=\"PU\" os_index=\"0\">",
                "</object>",
                "</object>",
                "</topology>"
            ]
        );
    }

    #[test]
    fn other_texts_stay_as_they_are() {
        for text in
            ["", "x", "<topology version=\"2.0\">", "<other version=\"3.0\"/>", "<topology version=\"30\"/>"]
        {
            assert!(matches!(to_v2(text), Ok(Cow::Borrowed(same)) if same == text), "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        let deep = format!("<topology version=\"3.0\">{}", "<object>".repeat(DEPTH_MAX));
        for (text, message) in [
            ("<topology version=\"3.0\">\n<objekt/>", "line 2: <objekt> does not belong here"),
            ("<topology version=\"3.0\">\n<object>\n<topology/>", "line 3: <topology> does not belong here"),
            ("<topology version=\"3.0\"></object>", "line 1: </object> ends an element that was not begun"),
            ("<topology version=\"3.0\"><object a=b/>", "an attribute is not written as name=\"value\""),
            ("<topology version=\"3.0\"><object a=\"b/>", "an attribute is not written"),
            ("<topology version=\"3.0\"><object\n", "a tag, comment or declaration does not end"),
            ("<topology version=\"3.0\"><!-- ", "does not end"),
            (
                "<topology version=\"3.0\">\n\n<object>x</object>",
                "line 3: there is text between the elements",
            ),
            ("<topology version=\"3.0\"><object></object>", "there is no whole topology"),
            ("<topology version=\"3.0\"/><topology version=\"3.0\"/>", "<topology> does not belong here"),
            ("<topology version=\"3.0\"><!DOCTYPE x [<!ENTITY a \"b\">]>", "entities of its own"),
            (&deep, "nested more than 128 deep"),
        ] {
            let error = to_v2(text).expect_err(text).to_string();
            assert!(error.contains(message), "{error}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_does_harm(begin in 0_usize..SMALL.len(), len in 0_usize..40, with in "[<>/\"'=a-z &\\[!-]{0,6}") {
            let end = (begin + len).min(SMALL.len());
            let text = format!("{}{with}{}", &SMALL[..begin], &SMALL[end..]);
            if let Ok(v2) = to_v2(&text) {
                proptest::prop_assert!(v2.len() <= 2 * text.len() + 200);
            }
        }
    }
}
