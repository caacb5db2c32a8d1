//! The service that is called: it does nothing, so that what a call costs is the way there and back.

use std::time::Duration;

use tokio::time::sleep;
use tonic::{Request, Response, Status, Streaming};

pub(crate) use self::proto::{Message, echo_client::EchoClient, echo_server::EchoServer};

#[expect(clippy::pedantic, unreachable_pub, reason = "generated from wire.proto")]
mod proto {
    tonic::include_proto!("wire");
}

/// The service's full name.
pub(crate) const SERVICE: &str = "wire.Echo";

/// Sends back what it gets.
pub(crate) struct Echo;

#[tonic::async_trait]
impl proto::echo_server::Echo for Echo {
    type StreamStream = Streaming<Message>;

    async fn call(&self, request: Request<Message>) -> Result<Response<Message>, Status> {
        let message = request.into_inner();
        if message.service_ms > 0 {
            sleep(Duration::from_millis(message.service_ms.into())).await;
        }
        Ok(Response::new(message))
    }

    async fn stream(
        &self,
        request: Request<Streaming<Message>>,
    ) -> Result<Response<Streaming<Message>>, Status> {
        Ok(Response::new(request.into_inner()))
    }
}
