//! Messages between the agent and a supervisor: a length of four bytes, big-endian, then the message.

use std::io::{Error, ErrorKind};

use prost::Message;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// The largest frame: a prepare with its script and environment, as the wire to the controller limits it too.
pub const FRAME_BYTES_MAX: usize = muster_wire::MESSAGE_BYTES_MAX;

/// Reads one frame; `None` at a clean end of the stream.
///
/// # Errors
///
/// The stream's own errors, [`ErrorKind::UnexpectedEof`] inside a frame, and [`ErrorKind::InvalidData`] for a frame
/// of more than [`FRAME_BYTES_MAX`].
pub async fn read_bytes(stream: &mut (impl AsyncRead + Unpin)) -> std::io::Result<Option<Vec<u8>>> {
    let mut length = [0u8; 4];
    match stream.read_exact(&mut length).await {
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    }
    let mut bytes = vec![0; checked_length(length)?];
    stream.read_exact(&mut bytes).await?;
    Ok(Some(bytes))
}

/// Writes one frame.
///
/// # Errors
///
/// The stream's own errors, and [`ErrorKind::InvalidInput`] for more than [`FRAME_BYTES_MAX`] bytes.
pub async fn write_bytes(stream: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> std::io::Result<()> {
    let mut frames = Frames::default();
    frames.add_bytes(bytes)?;
    frames.write(stream).await
}

/// Frames that are written together.
#[derive(Debug, Default)]
pub struct Frames(Vec<u8>);

impl Frames {
    /// Adds one.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] for more than [`FRAME_BYTES_MAX`] bytes.
    pub fn add_bytes(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.begin(bytes.len())?;
        self.0.extend_from_slice(bytes);
        Ok(())
    }

    /// Adds one with a message.
    ///
    /// # Errors
    ///
    /// As [`Self::add_bytes`].
    pub fn add(&mut self, message: &impl Message) -> std::io::Result<()> {
        self.begin(message.encoded_len())?;
        message.encode(&mut self.0).map_err(|error| Error::new(ErrorKind::InvalidInput, error))
    }

    fn begin(&mut self, length: usize) -> std::io::Result<()> {
        let known = u32::try_from(length).ok().filter(|_| length <= FRAME_BYTES_MAX);
        let known = known.ok_or_else(|| Error::new(ErrorKind::InvalidInput, "the frame is too long"))?;
        self.0.reserve(length + 4);
        self.0.extend_from_slice(&known.to_be_bytes());
        Ok(())
    }

    /// Writes them.
    ///
    /// # Errors
    ///
    /// The stream's own errors.
    pub async fn write(self, stream: &mut (impl AsyncWrite + Unpin)) -> std::io::Result<()> {
        stream.write_all(&self.0).await
    }
}

/// How much is read at once, at least: most messages are shorter.
const READ_BYTES: usize = 1024;

/// Reads frames in such a way that a read may be given up and taken up again: what has arrived is kept.
#[derive(Debug, Default)]
pub struct FrameReader {
    arrived: Vec<u8>,
}

impl FrameReader {
    /// The next frame; `None` at a clean end of the stream. May be dropped before it is done.
    ///
    /// # Errors
    ///
    /// As [`read_bytes`].
    pub async fn next(&mut self, stream: &mut (impl AsyncRead + Unpin)) -> std::io::Result<Option<Vec<u8>>> {
        loop {
            if let Some((length, rest)) = self.arrived.split_first_chunk::<4>() {
                let length = checked_length(*length)?;
                if let Some(frame) = rest.get(..length).map(<[u8]>::to_vec) {
                    self.arrived.drain(..4 + length);
                    return Ok(Some(frame));
                }
            }
            self.arrived.reserve(READ_BYTES);
            if stream.read_buf(&mut self.arrived).await? == 0 {
                return match self.arrived.is_empty() {
                    true => Ok(None),
                    false => Err(ErrorKind::UnexpectedEof.into()),
                };
            }
        }
    }
}

fn checked_length(length: [u8; 4]) -> std::io::Result<usize> {
    let length = u32::from_be_bytes(length) as usize;
    if length > FRAME_BYTES_MAX {
        let text = format!("a frame of {length} bytes is longer than the limit of {FRAME_BYTES_MAX}");
        return Err(Error::new(ErrorKind::InvalidData, text));
    }
    Ok(length)
}

/// Reads one protobuf message; `None` at a clean end of the stream.
///
/// # Errors
///
/// As [`read_bytes`], and [`ErrorKind::InvalidData`] for bytes that are no such message.
pub async fn read<M: Message + Default>(stream: &mut (impl AsyncRead + Unpin)) -> std::io::Result<Option<M>> {
    match read_bytes(stream).await? {
        Some(bytes) => {
            M::decode(bytes.as_slice()).map(Some).map_err(|error| Error::new(ErrorKind::InvalidData, error))
        }
        None => Ok(None),
    }
}

/// Writes one protobuf message.
///
/// # Errors
///
/// As [`write_bytes`].
pub async fn write(stream: &mut (impl AsyncWrite + Unpin), message: &impl Message) -> std::io::Result<()> {
    let mut frames = Frames::default();
    frames.add(message)?;
    frames.write(stream).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use muster_wire::v1::AttemptKey;

    #[tokio::test]
    async fn frames_round_trip_and_end() {
        let (mut near, mut far) = tokio::io::duplex(64);
        let key = AttemptKey { job: 7, task: 1, attempt: 2 };
        write(&mut near, &key).await.unwrap();
        drop(near);
        assert_eq!(read::<AttemptKey>(&mut far).await.unwrap(), Some(key));
        assert_eq!(read::<AttemptKey>(&mut far).await.unwrap(), None);
    }

    #[tokio::test]
    async fn frames_that_were_written_together_are_read_one_by_one() {
        let mut frames = Frames::default();
        let key = AttemptKey { job: 7, task: 1, attempt: 2 };
        frames.add_bytes(b"first").unwrap();
        frames.add(&key).unwrap();
        frames.add_bytes(b"").unwrap();
        let too_long = vec![0; FRAME_BYTES_MAX + 1];
        assert_eq!(frames.add_bytes(&too_long).unwrap_err().kind(), ErrorKind::InvalidInput);
        let (mut near, mut far) = tokio::io::duplex(64);
        frames.write(&mut near).await.unwrap();
        drop(near);
        let mut reader = FrameReader::default();
        for expected in [b"first".to_vec(), key.encode_to_vec(), Vec::new()] {
            assert_eq!(reader.next(&mut far).await.unwrap(), Some(expected));
        }
        assert_eq!(reader.next(&mut far).await.unwrap(), None);
    }

    #[tokio::test]
    async fn a_read_that_is_given_up_loses_nothing() {
        let (mut near, mut far) = tokio::io::duplex(64);
        let mut reader = FrameReader::default();
        let (first, second) = (vec![1; 9], Vec::new());
        near.write_all(&[0, 0, 0, 9, 1, 1, 1]).await.unwrap();
        tokio::select! {
            biased;
            frame = reader.next(&mut far) => panic!("{frame:?}"),
            () = std::future::ready(()) => {}
        }
        near.write_all(&[1; 6]).await.unwrap();
        near.write_all(&[0; 4]).await.unwrap();
        drop(near);
        assert_eq!(reader.next(&mut far).await.unwrap(), Some(first));
        assert_eq!(reader.next(&mut far).await.unwrap(), Some(second));
        assert_eq!(reader.next(&mut far).await.unwrap(), None);
    }

    #[tokio::test]
    async fn a_frame_that_is_too_long_is_refused_before_it_is_read() {
        let (mut near, mut far) = tokio::io::duplex(64);
        near.write_all(&u32::MAX.to_be_bytes()).await.unwrap();
        let error = read_bytes(&mut far).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidData);
    }
}
