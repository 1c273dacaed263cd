//! What a controller tells a node, where a part of it was encoded before: what all tasks of an array are told alike is encoded once.
//! Messages of protobuf that are put one behind the other are one message, in which what comes later prevails, so that a node sees
//! nothing of it.

use bytes::{BufMut, Bytes};
use prost::Message as _;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len};
use tonic::Status;
use tonic::codec::{Codec, EncodeBuf, Encoder};
use tonic_prost::{ProstCodec, ProstDecoder};

use crate::v1;

/// The number of `prepare` in `ToNode`.
const PREPARE_FIELD: u32 = 2;

/// A message to a node.
#[derive(Debug, Clone)]
pub enum Told {
    /// As it is.
    Message(v1::ToNode),
    /// A prepare, the first part of which is encoded.
    Prepare {
        /// What many have in common: an encoded [`v1::Prepare`].
        common: Bytes,
        /// The rest.
        own: v1::Prepare,
    },
}

impl From<v1::ToNode> for Told {
    fn from(message: v1::ToNode) -> Self {
        Self::Message(message)
    }
}

impl Told {
    /// Encodes what many prepares have in common.
    #[must_use]
    pub fn common(prepare: &v1::Prepare) -> Bytes {
        prepare.encode_to_vec().into()
    }

    /// Its size on the wire, in bytes.
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        match self {
            Self::Message(message) => message.encoded_len(),
            Self::Prepare { common, own } => {
                let len = common.len() + own.encoded_len();
                key_len(PREPARE_FIELD) + encoded_len_varint(len as u64) + len
            }
        }
    }

    /// Writes it to a buffer that grows as it must.
    pub fn encode(&self, buffer: &mut impl BufMut) {
        match self {
            Self::Message(message) => message.encode_raw(buffer),
            Self::Prepare { common, own } => {
                encode_key(PREPARE_FIELD, WireType::LengthDelimited, buffer);
                encode_varint((common.len() + own.encoded_len()) as u64, buffer);
                buffer.put_slice(common);
                own.encode_raw(buffer);
            }
        }
    }

    /// What a node makes of it.
    ///
    /// # Errors
    ///
    /// If it cannot be decoded.
    pub fn heard(&self) -> Result<v1::ToNode, prost::DecodeError> {
        let mut bytes = Vec::new();
        self.encode(&mut bytes);
        v1::ToNode::decode(&bytes[..])
    }
}

/// Encodes what a controller tells, and decodes what it hears.
#[derive(Debug, Default)]
pub struct ToldCodec;

impl Codec for ToldCodec {
    type Encode = Told;
    type Decode = v1::FromNode;
    type Encoder = ToldEncoder;
    type Decoder = ProstDecoder<v1::FromNode>;

    fn encoder(&mut self) -> ToldEncoder {
        ToldEncoder
    }

    fn decoder(&mut self) -> Self::Decoder {
        ProstCodec::<v1::ToNode, v1::FromNode>::default().decoder()
    }
}

/// Encodes what a controller tells.
#[derive(Debug)]
pub struct ToldEncoder;

impl Encoder for ToldEncoder {
    type Item = Told;
    type Error = Status;

    fn encode(&mut self, told: Told, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.reserve(told.encoded_len());
        told.encode(buffer);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn work(script: &str, names: &[(&str, &str)]) -> v1::Work {
        let pair = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let environment = names.iter().map(pair).collect();
        v1::Work { script: script.into(), environment, ..v1::Work::default() }
    }

    /// A prepare with these parts of work.
    fn prepare(works: &[&v1::Work]) -> v1::Prepare {
        let mut prepare = v1::Prepare::default();
        works.iter().for_each(|work| prepare.add_work(work));
        prepare
    }

    #[test]
    fn a_node_finds_both_parts_in_one_message_and_the_later_prevails() {
        let common = prepare(&[&work("true", &[("a", "1"), ("b", "2")])]);
        let own_work = v1::Work { stdout_path: "/out".to_owned(), ..work("", &[("b", "3"), ("c", "4")]) };
        let own = v1::Prepare { instance: 7, array: true, ..prepare(&[&own_work]) };
        let told = Told::Prepare { common: Told::common(&common), own };
        let mut bytes = Vec::new();
        told.encode(&mut bytes);
        assert_eq!(bytes.len(), told.encoded_len());
        let message = told.heard().unwrap();
        let Some(v1::to_node::Body::Prepare(heard)) = &message.body else { panic!("{message:?}") };
        assert_eq!((heard.instance, heard.array, heard.work.len()), (7, true, 2));
        let both = v1::Work {
            stdout_path: "/out".to_owned(),
            ..work("true", &[("a", "1"), ("b", "3"), ("c", "4")])
        };
        assert_eq!(heard.decode_work().unwrap(), Some(both));

        let (told, mut bytes) = (Told::from(message.clone()), Vec::new());
        told.encode(&mut bytes);
        assert_eq!((bytes.len(), told.heard().unwrap()), (told.encoded_len(), message));
    }
}
