//! How messages become bytes: protobuf as tonic-prost writes it, in small buffers.

use std::marker::PhantomData;

use prost::Message;
use tonic::codec::{BufferSettings, Codec};
use tonic_prost::{ProstDecoder, ProstEncoder};

/// What a stream's buffer for incoming messages holds, in bytes, until a longer one makes it grow. A load report has some
/// sixty. Ten thousand streams that wait have as many of these buffers, and would fill tonic's 8 KiB in time.
const INCOMING: usize = 256;

/// The same for outgoing messages. The least that the buffer remembers when it starts anew while the last message is
/// still being sent: a smaller one would grow byte by byte each time.
const OUTGOING: usize = 1024;

/// So many bytes are handed on at once, if so much is ready; tonic's own choice.
const YIELD_THRESHOLD: usize = 32 * 1024;

/// The codec of all services of the contract; the generated code names it.
#[derive(Debug)]
pub(crate) struct SmallBuffers<E, D>(PhantomData<(E, D)>);

impl<E, D> Default for SmallBuffers<E, D> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<E, D> Codec for SmallBuffers<E, D>
where
    E: Message + Send + 'static,
    D: Message + Default + Send + 'static,
{
    type Encode = E;
    type Decode = D;
    type Encoder = ProstEncoder<E>;
    type Decoder = ProstDecoder<D>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstEncoder::new(BufferSettings::new(OUTGOING, YIELD_THRESHOLD))
    }

    fn decoder(&mut self) -> Self::Decoder {
        ProstDecoder::new(BufferSettings::new(INCOMING, YIELD_THRESHOLD))
    }
}
