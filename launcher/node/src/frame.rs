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
    let length = u32::try_from(bytes.len()).ok().filter(|length| *length as usize <= FRAME_BYTES_MAX);
    let length = length.ok_or_else(|| Error::new(ErrorKind::InvalidInput, "the frame is too long"))?;
    let mut frame = Vec::with_capacity(bytes.len() + 4);
    frame.extend_from_slice(&length.to_be_bytes());
    frame.extend_from_slice(bytes);
    stream.write_all(&frame).await
}

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
    write_bytes(stream, &message.encode_to_vec()).await
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
