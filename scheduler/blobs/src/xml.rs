//! The bodies in XML: lists, lists of blocks, and errors.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use quick_xml::Writer;
use quick_xml::events::{BytesDecl, BytesEnd, BytesStart, BytesText, Event};

use crate::conditions::Version;
use crate::error::{BlobsError, Code, refuse};
use crate::headers::rfc1123;
use crate::index::{Blob, BlockRef, Blocks, Container, Listing, Row, Wanted};

/// Most blocks of a blob.
const BLOCKS_MAX: usize = 50_000;

/// Writes XML into memory, which cannot fail.
pub(crate) struct Xml(Writer<Vec<u8>>);

impl Xml {
    fn new() -> Self {
        let mut xml = Self(Writer::new(Vec::new()));
        xml.event(Event::Decl(BytesDecl::new("1.0", Some("utf-8"), None)));
        xml
    }

    fn event(&mut self, event: Event<'_>) {
        let _ = self.0.write_event(event);
    }

    fn open(&mut self, name: &str, attributes: &[(&str, &str)]) {
        self.event(Event::Start(BytesStart::new(name).with_attributes(attributes.iter().copied())));
    }

    fn close(&mut self, name: &str) {
        self.event(Event::End(BytesEnd::new(name)));
    }

    fn text(&mut self, name: &str, text: &str) {
        self.open(name, &[]);
        self.event(Event::Text(BytesText::new(text)));
        self.close(name);
    }

    fn within(&mut self, name: &str, inner: impl FnOnce(&mut Self)) {
        self.open(name, &[]);
        inner(self);
        self.close(name);
    }

    fn version(&mut self, version: Version) {
        self.text("Last-Modified", &rfc1123(version.modified()));
        self.text("Etag", &version.tag());
    }

    fn metadata(&mut self, metadata: &std::collections::BTreeMap<String, String>) {
        self.within("Metadata", |xml| {
            for (name, value) in metadata {
                xml.text(name, value);
            }
        });
    }

    fn done(self) -> Vec<u8> {
        self.0.into_inner()
    }
}

/// The body of an error.
pub(crate) fn error(error: &BlobsError) -> Vec<u8> {
    let mut xml = Xml::new();
    xml.within("Error", |xml| {
        xml.text("Code", error.code().name());
        xml.text("Message", &error.told());
    });
    xml.done()
}

/// Where a list goes on, as clients send it back.
pub(crate) fn marker(next: &[u8]) -> String {
    STANDARD.encode(next)
}

/// A page of a list of blobs.
pub(crate) fn blobs(container: &str, wanted: &Wanted, listing: &Listing, with_metadata: bool) -> Vec<u8> {
    let mut xml = Xml::new();
    xml.open("EnumerationResults", &[("ContainerName", container)]);
    xml.text("Prefix", &wanted.prefix);
    xml.text("MaxResults", &wanted.max_results.to_string());
    if let Some(delimiter) = &wanted.delimiter {
        xml.text("Delimiter", delimiter);
    }
    xml.within("Blobs", |xml| {
        for row in &listing.rows {
            match row {
                Row::Blob(name, found) => blob(xml, name, found, with_metadata),
                Row::Prefix(name) => xml.within("BlobPrefix", |xml| xml.text("Name", name)),
            }
        }
    });
    xml.text("NextMarker", &listing.next.as_deref().map(marker).unwrap_or_default());
    xml.close("EnumerationResults");
    xml.done()
}

fn blob(xml: &mut Xml, name: &str, blob: &Blob, with_metadata: bool) {
    xml.within("Blob", |xml| {
        xml.text("Name", name);
        xml.within("Properties", |xml| {
            xml.version(blob.version);
            let created = jiff::Timestamp::from_microsecond(blob.created).unwrap_or_default();
            xml.text("Creation-Time", &rfc1123(created));
            xml.text("Content-Length", &blob.length.to_string());
            for (name, header) in [
                ("Content-Type", "content-type"),
                ("Content-Encoding", "content-encoding"),
                ("Content-Language", "content-language"),
                ("Cache-Control", "cache-control"),
                ("Content-Disposition", "content-disposition"),
            ] {
                xml.text(name, blob.properties.headers.get(header).map_or("", String::as_str));
            }
            xml.text("Content-MD5", blob.properties.md5.as_deref().unwrap_or_default());
            xml.text("BlobType", "BlockBlob");
            xml.text("LeaseStatus", "unlocked");
            xml.text("LeaseState", "available");
            xml.text("ServerEncrypted", "false");
        });
        if with_metadata {
            xml.metadata(&blob.properties.metadata);
        }
    });
}

/// A page of a list of containers.
pub(crate) fn containers(prefix: &str, containers: &[Container], with_metadata: bool, next: &str) -> Vec<u8> {
    let mut xml = Xml::new();
    xml.open("EnumerationResults", &[]);
    xml.text("Prefix", prefix);
    xml.within("Containers", |xml| {
        for container in containers {
            xml.within("Container", |xml| {
                xml.text("Name", &container.name);
                xml.within("Properties", |xml| xml.version(container.version));
                if with_metadata {
                    xml.metadata(&container.metadata);
                }
            });
        }
    });
    xml.text("NextMarker", next);
    xml.close("EnumerationResults");
    xml.done()
}

/// The blocks of a blob.
pub(crate) fn blocks(blocks: &Blocks) -> Vec<u8> {
    let mut xml = Xml::new();
    xml.within("BlockList", |xml| {
        for (name, blocks) in
            [("CommittedBlocks", &blocks.committed), ("UncommittedBlocks", &blocks.uncommitted)]
        {
            xml.within(name, |xml| {
                for (id, length) in blocks {
                    xml.within("Block", |xml| {
                        xml.text("Name", id);
                        xml.text("Size", &length.to_string());
                    });
                }
            });
        }
    });
    xml.done()
}

/// Reads which blocks a blob is made of.
pub(crate) fn block_list(body: &[u8]) -> Result<Vec<BlockRef>, BlobsError> {
    let bad = |what: &str| refuse(Code::InvalidXmlDocument, format!("The list of blocks is wrong: {what}."));
    let text = std::str::from_utf8(body).map_err(|_| bad("it is not UTF-8"))?;
    let mut reader = quick_xml::Reader::from_str(text.trim_start_matches('\u{feff}'));
    let mut list = Vec::new();
    let (mut within, mut kind, mut id) = (false, None, String::new());
    loop {
        match reader.read_event().map_err(|_| bad("it is not well-formed XML"))? {
            Event::Start(start) if !within && start.name().as_ref() == b"BlockList" => within = true,
            Event::Empty(empty) if !within && empty.name().as_ref() == b"BlockList" => return Ok(list),
            Event::Start(start) if within && kind.is_none() => {
                id.clear();
                kind = Some(match start.name().as_ref() {
                    b"Latest" => BlockRef::Latest as fn(String) -> BlockRef,
                    b"Committed" => BlockRef::Committed,
                    b"Uncommitted" => BlockRef::Uncommitted,
                    _ => return Err(bad("it has Latest, Committed and Uncommitted only")),
                });
            }
            // Ids are base64, which needs no entities.
            Event::Text(text) if kind.is_some() => {
                id.push_str(std::str::from_utf8(&text).unwrap_or_default())
            }
            Event::Text(text) if text.trim_ascii().is_empty() => {}
            Event::Decl(_) | Event::Comment(_) => {}
            Event::End(_) => match kind.take() {
                Some(kind) if list.len() < BLOCKS_MAX => list.push(kind(id.trim().to_owned())),
                Some(_) => {
                    let what = format!("A blob has at most {BLOCKS_MAX} blocks.");
                    return Err(refuse(Code::BlockCountExceedsLimit, what));
                }
                None => return Ok(list),
            },
            Event::Eof => return Err(bad("it ends too early")),
            _ => return Err(bad("it has more than blocks")),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lists_of_blocks_are_read_in_their_order() {
        let text = "\u{feff}<?xml version='1.0' encoding='utf-8'?>\n<BlockList> <Latest>YQ==</Latest><Committed> Yg== </Committed>
            <!-- last --><Uncommitted>Yw==</Uncommitted></BlockList>";
        assert_eq!(
            block_list(text.as_bytes()).unwrap(),
            [
                BlockRef::Latest("YQ==".into()),
                BlockRef::Committed("Yg==".into()),
                BlockRef::Uncommitted("Yw==".into())
            ]
        );
        assert_eq!(block_list(b"<BlockList />").unwrap(), []);
        assert_eq!(block_list(b"<BlockList></BlockList>").unwrap(), []);
        for bad in [
            "",
            "<BlockList>",
            "<Blocks/>",
            "<BlockList><Oldest>YQ==</Oldest></BlockList>",
            "<BlockList><Latest><Latest>YQ==</Latest></Latest></BlockList>",
            "<BlockList>YQ==</BlockList>",
            "<!DOCTYPE a [<!ENTITY x SYSTEM 'file:///etc/passwd'>]><BlockList><Latest>&x;</Latest></BlockList>",
        ] {
            assert_eq!(block_list(bad.as_bytes()).unwrap_err().code(), Code::InvalidXmlDocument, "{bad}");
        }
        let many = format!("<BlockList>{}</BlockList>", "<Latest>YQ==</Latest>".repeat(BLOCKS_MAX + 1));
        assert_eq!(block_list(many.as_bytes()).unwrap_err().code(), Code::BlockCountExceedsLimit);
    }

    #[test]
    fn texts_are_escaped() {
        let body = error(&refuse(Code::InvalidUri, "<&>"));
        let text = String::from_utf8(body).unwrap();
        assert_eq!(
            text,
            "<?xml version=\"1.0\" encoding=\"utf-8\"?><Error><Code>InvalidUri</Code><Message>&lt;&amp;&gt;</Message></Error>"
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_list_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = block_list(&bytes);
        }
    }
}
